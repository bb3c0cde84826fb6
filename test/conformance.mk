# Go's rules, case by case: the twins of real Go programs, run and compared.

conformance := $O/test/conformance/conformance
conformance.src := $(wildcard test/conformance/*.c)

$(conformance): $(patsubst %,$O/%.o,$(conformance.src)) $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)

conformance: $(conformance) ; @test/conformance/run.sh $(conformance) $(CASE)

all: $(conformance)
more_suites += conformance
.PHONY: conformance

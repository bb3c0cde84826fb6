# The lab: what an article says about recover, and what is true.

lab := $(patsubst examples/lab/%.c,$O/examples/lab/%,$(wildcard examples/lab/s[0-9]*.c))

$(lab): $O/%: $O/%.c.o $O/examples/lab/lab.c.o $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)

all: $(lab)

test-lab: $(lab) ; @examples/lab/run.sh $O/examples/lab
more_suites += test-lab
.PHONY: test-lab

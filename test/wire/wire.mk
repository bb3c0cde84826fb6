# The server against input and clients that no one here wrote; see test/wire/run.sh.
#
#   make test-wire              a bounded run
#   make test-wire WIRE=full    every gadget through every proxy, every byte of every exchange
#   make test-wire PART="smuggle reject"

wire := $O/test/wire/server $O/test/wire/faults.so

$O/test/wire/server: $O/test/wire/server.c.o $(patsubst %,$O/lib/libbh_%.a,http runtime base)
	$(link)
$O/test/wire/faults.so: test/wire/faults.c
	@mkdir -p $(@D); echo "  LD  $@"; $(CC) $(filter-out $(sanflags),$(CFLAGS_ALL)) -Wno-missing-prototypes \
	    -fPIC -shared -o $@ $< -ldl

all: $O/test/wire/server

test-wire: ; @tools/deps.sh build test wire
	@$(MAKE) --no-print-directory O=$O run-$@
run-test-wire: $(wire) ; @WIRE=$(WIRE) test/wire/run.sh $O/test/wire $(PART)
.PHONY: test-wire run-test-wire

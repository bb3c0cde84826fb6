# Healthy requests beside a storm of crashing ones.
#
#   make bench-crashstorm SECONDS=30 CONNECTIONS=64

SECONDS     ?= 30
CONNECTIONS ?= 64
crashstorm  := $O/bench/crashstorm/crashstorm

$(crashstorm): $O/bench/crashstorm/crashstorm.c.o $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)
all: $(crashstorm)

bench-crashstorm: deps
	@$(MAKE) --no-print-directory $(crashstorm) $O/examples/server/crashlab
	@$(crashstorm) $O/examples/server/crashlab $(SECONDS) $(CONNECTIONS)
.PHONY: bench-crashstorm

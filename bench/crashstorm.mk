# Healthy requests beside a storm of crashing ones.
#
#   make bench-crashstorm SECONDS=30 CONNECTIONS=64
#   make bench-endurance                              three kinds of crashes, 10,000 of each at least

SECONDS     ?= 30
CONNECTIONS ?= 64
crashstorm  := $O/bench/crashstorm/crashstorm

$(crashstorm): $O/bench/crashstorm/crashstorm.c.o $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)
all: $(crashstorm)

bench-crashstorm: deps
	@$(MAKE) --no-print-directory $(crashstorm) $O/examples/server/crashlab
	@$(crashstorm) $O/examples/server/crashlab $(SECONDS) $(CONNECTIONS)
bench-endurance: deps
	@$(MAKE) --no-print-directory $(crashstorm) $O/examples/server/crashlab
	@$(crashstorm) $O/examples/server/crashlab $(SECONDS) $(CONNECTIONS) all
.PHONY: bench-crashstorm bench-endurance

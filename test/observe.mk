# make test-observe: real tools read what the observe layer writes.
#
#   make test-observe STEP=pprof     only steps with this in their name
#
# Each step is a program under test/observe/, started with O and MAKE in the environment; it
# prints "name: N passed, N failed".  What is in observe_needs is built before.

test-observe: ; @tools/deps.sh build test
	@$(MAKE) --no-print-directory O=$O run-$@
chosen_steps = $(if $(STEP),$(foreach s,$(observe_steps),$(if $(findstring $(STEP),$s),$s)),$(observe_steps))
run-test-observe:
	@$(MAKE) --no-print-directory O=$O $(observe_needs)
	@[ -n "$(strip $(chosen_steps))" ] || { echo "test-observe: no step has $(STEP) in its name"; exit 1; }
	@status=0; for step in $(chosen_steps); do \
	    O=$O MAKE="$(MAKE)" $$step || status=1; done; exit $$status
.PHONY: test-observe run-test-observe

# Profiles, with go tool pprof, of a server.
$O/test/observe/pprof/target: $O/test/observe/pprof/target.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/pprof/target
observe_steps += test/observe/pprof/test.py

# The profiles of memory and contention, of a program with the static library and of one with the shared.
memory := $O/test/observe/memory
$(memory)/static: $(memory)/program.c.o $O/libbulkhead.a ; $(link)
$(memory)/shared: $(memory)/program.c.o $O/libbulkhead.so
	@echo "  LD  $@"; ln -sf $(abspath $O/libbulkhead.so) $(@D)/libbulkhead.so.0
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ -Wl,-rpath,'$$ORIGIN' -pthread
observe_steps += test/observe/memory/test.sh

# What the flight recorder has seen, with go tool trace.
$O/test/observe/timeline/program: $O/test/observe/timeline/program.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/timeline/program
observe_steps += test/observe/timeline/test.py

# Requests for a collector, with OpenTelemetry's decoder and with protoc.
$O/test/observe/otlp/target: $O/test/observe/otlp/target.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/otlp/target
observe_steps += test/observe/otlp/test.py

# Metrics, with promtool and a Prometheus that scrapes a server.
$O/test/observe/prometheus/program: $O/test/observe/prometheus/program.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/prometheus/program
observe_steps += test/observe/prometheus/test.py

# The static probes, with bpftrace; and spin, over the models of what is lock-free.
$O/test/observe/probes/target: $O/test/observe/probes/target.c.o $(layers) ; $(link)
observe_needs += $O/test/observe/probes/target
observe_steps += test/observe/probes/test.py test/model/check.sh

# The page, in headless Chromium; screenshots in $O/test/observe/page/screenshots.
observe_needs += $O/examples/server/crashlab
observe_steps += test/observe/page/test.py

all: $(observe_needs)

# Allocations of the registry, the logger and of profiles fail in turn (http/sweep.mk).
$O/observe/metrics_sweep_test $O/observe/profile_sweep_test: LDFLAGS += $(sweep.calls:%=-Wl$(comma)--wrap=%)
$O/observe/metrics_sweep_test $O/observe/profile_sweep_test: $O/test/faults.c.o

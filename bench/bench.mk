# bench.mk -- ours and the peers, same machine, same run (run.sh).

bench := $(patsubst %.c,$O/%,$(wildcard bench/*.c))
all: $(bench)
$(bench): $O/%: $O/%.c.o $O/libbulkhead.a ; $(link)

$O/bench/go_%: bench/peers/go/%.go
	@mkdir -p $(@D); echo "  GO  $<"; GO111MODULE=off go build -o $@ $<
$O/bench/boost_%: bench/peers/boost/%.cc
	@mkdir -p $(@D); echo "  CXX $<"; g++ -O2 -pthread -o $@ $< -lboost_fiber -lboost_context

bench-deps: ; @tools/deps.sh build peers
bench-fibers bench-panic: bench-deps
	@$(MAKE) --no-print-directory O=$O run-$@
run-bench-fibers: $O/bench/fibers $O/bench/go_fibers $O/bench/boost_fibers
	@bench/run.sh bench/fibers.targets $< Go=$O/bench/go_fibers Boost.Fiber=$O/bench/boost_fibers
run-bench-panic: $O/bench/panic $O/bench/go_panic
	@bench/run.sh bench/panic.targets $< Go=$O/bench/go_panic


# What being observed costs, row by row; then a whole request; then in instructions.
observe_targets := $(wildcard bench/observe_*.targets)
bench-observe: ; @tools/deps.sh build peers valgrind
	@$(MAKE) --no-print-directory O=$O run-$@
run-bench-observe: $(patsubst %.targets,$O/%,$(observe_targets)) $O/bench/observe_server
	@for t in $(observe_targets); do \
	    BENCH_RUNS=$${BENCH_RUNS:-3} bench/run.sh $$t $O/$${t%.targets}; done
	@bench/observe_request.sh $O/bench/observe_server
	@$(MAKE) --no-print-directory O=$O run-test-instructions

# The gate: what no busy machine changes.  (Valgrind 3.19 cannot read clang's DWARF.)
test-instructions: ; @tools/deps.sh build valgrind
	@$(MAKE) --no-print-directory O=$O run-$@
ifeq ($(filter-out x86_64 gcc -O2,$(ARCH) $(notdir $(CC)) $(OPT))$(SAN),)
run-test-instructions: $O/bench/instructions
	@bench/instructions.sh bench/instructions.targets $<
else
run-test-instructions:
	@echo "instructions: skipped: budgets are for gcc -O2 on x86-64, without a sanitizer"
endif

.PHONY: bench-deps bench-fibers bench-panic bench-observe test-instructions \
        run-bench-fibers run-bench-panic run-bench-observe run-test-instructions

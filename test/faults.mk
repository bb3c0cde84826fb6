# make test-faults: what a fault looks like depends on the compiler and on how it optimizes.
test-faults:
	+@set -e; for cc in gcc clang; do for opt in -O0 -O2; do \
	    o=build/$$cc$${opt#-O2}; \
	    $(MAKE) --no-print-directory CC=$$cc OPT=$$opt O=$$o $$o/runtime/stack_test $$o/runtime/signal_test; \
	    echo "  faults: $$cc $$opt"; $$o/runtime/stack_test; $$o/runtime/signal_test; \
	done; done
.PHONY: test-faults

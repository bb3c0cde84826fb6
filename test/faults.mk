# Faults with both compilers, optimized and not: what a fault looks like depends on the code around it.

faults.run := gcc,-O0 gcc,-O2 clang,-O0 clang,-O2

define fault_run
test-faults-$1$2:
	+@$$(MAKE) --no-print-directory CC=$1 OPT=$2 O=build/$1$(patsubst -O2,,$2) \
	    build/$1$(patsubst -O2,,$2)/runtime/signal_test build/$1$(patsubst -O2,,$2)/runtime/stack_test
	@echo "  faults: $1 $2"; build/$1$(patsubst -O2,,$2)/runtime/stack_test && \
	    build/$1$(patsubst -O2,,$2)/runtime/signal_test
endef

comma := ,
$(foreach r,$(faults.run),$(eval $(call fault_run,$(word 1,$(subst $(comma), ,$r)),$(word 2,$(subst $(comma), ,$r)))))

test-faults: $(foreach r,$(faults.run),test-faults-$(subst $(comma),,$r))
.PHONY: test-faults $(foreach r,$(faults.run),test-faults-$(subst $(comma),,$r))

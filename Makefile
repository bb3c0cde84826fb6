# Bulkhead: the whole build.  GNU make, no configure step.
#
#   make               build the libraries, programs and tests
#   make run           install what is needed, build, serve the crash lab on 127.0.0.1:$(PORT)
#   make test          install what is needed, build, run the whole suite
#   make lint          layers, style, headers
#   make test-units    only the programs beside the sources; one of them: build/gcc/runtime/chan_test
#   make conformance   Go's rules case by case
#   make test-instructions   what observing costs, in instructions, against budgets
#   make bench-fibers  bench-panic  bench-http  bench-crashstorm   ours and the peers, same run
#   make fuzz          the parsers, for FUZZ_SECONDS=20 each, two at a time (fuzz/fuzz.mk)
#   make install PREFIX=/usr/local DESTDIR=
#   SAN=asan|ubsan|tsan make test-units      CC=clang make test-units
#   make test-valgrind  test-aarch64
#
# A layer's sources see include/ and their own folder; they cannot see another
# layer's private headers, nor (tools/dev/layers.sh) include a higher layer's
# public ones.

CC     ?= cc
ifeq ($(origin CC),default)
CC     := gcc
endif
SAN    ?=
comma  := ,
OPT    ?= -O2
PORT   ?= 8080
PREFIX ?= /usr/local
ARCH   ?= $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
VERSION := 0.1.0

# Faults are what we turn into panics, so UBSan leaves NULL and division to us.
san.asan  := -fsanitize=address -DRT_ASAN
san.ubsan := -fsanitize=undefined -fno-sanitize=null,integer-divide-by-zero
san.tsan  := -fsanitize=thread -DRT_TSAN
sanflags  := $(if $(SAN),$(san.$(SAN)) -fno-sanitize-recover=all)

cross  := $(if $(filter $(ARCH),$(shell uname -m)),,yes)
O      ?= build/$(notdir $(CC))$(SAN:%=-%)$(patsubst -O2,,$(OPT))$(if $(cross),-$(ARCH))
WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla \
          -Wundef -Wcast-qual -Wformat=2 -Wno-cast-function-type \
          $(if $(findstring clang,$(CC)),,-Wjump-misses-init -Wclobbered)
# On aarch64 gcc takes guards for 64 KiB wide, and probes in such steps; ours are a page.
clash_step := $(if $(filter aarch64,$(ARCH)),$(if $(findstring clang,$(CC)),,--param stack-clash-protection-guard-size=12))
# gcc clears and copies structs by rep, which takes tens of cycles to start.
no_rep := $(if $(findstring clang,$(CC)),,$(if $(filter x86_64,$(ARCH)),$(patsubst %,-mmem%-strategy=unrolled_loop:256:noalign$(comma)libcall:-1:noalign,set cpy)))
CFLAGS_ALL := -std=gnu17 $(OPT) -g $(WARN) -Werror -fno-strict-aliasing -fno-omit-frame-pointer \
          -fstack-clash-protection $(clash_step) -fno-optimize-sibling-calls $(no_rep) -pthread -D_GNU_SOURCE \
          -DBH_VERSION='"$(VERSION)"' $(sanflags) $(CFLAGS)
CXX    := $(subst gcc,g++,$(subst clang,clang++,$(CC)))
CXXFLAGS_ALL := -std=gnu++17 $(OPT) -g -Wall -Wextra -Werror -fno-strict-aliasing -fno-omit-frame-pointer \
          -fstack-clash-protection -fno-exceptions -fno-rtti -pthread $(sanflags) $(CXXFLAGS)
LIBS   := $(if $(cross),,-Wl,--as-needed -lz -lzstd -lbrotlienc -lbrotlidec -lssl -lcrypto -lnghttp2 -lsimdjson -lstdc++ -lm) -pthread -ldl
RUNENV ?=

all:

# ---- layers -------------------------------------------------------------
# $(call layer,NAME,LOWER LAYERS): one archive, and one program per *_test.c.  (ar q: two files of
# one name, in two folders, are two members.)
define layer
$1.src  := $$(filter-out %_test.c,$$(wildcard $1/*.c $1/*/*.c)) $$(wildcard $1/*.cc $1/*_$(ARCH).S)
$1.obj  := $$(patsubst %,$O/%.o,$$($1.src))
$1.test := $$(patsubst %.c,$O/%,$$(wildcard $1/*_test.c $1/*/*_test.c))
$O/lib/libbh_$1.a: $$($1.obj) ; @mkdir -p $$(@D); rm -f $$@; $$(AR) qcs $$@ $$^
$O/$1/%.o $O/pic/$1/%.o: own = -iquote $1
$$($1.test): $O/%: $O/%.c.o $O/test/test.c.o $$(patsubst %,$O/lib/libbh_%.a,$1 $2)
	$$(link)
all: $O/lib/libbh_$1.a $$($1.test)
tests += $$($1.test)
sources += $$($1.src)
endef

# Readers in other processes look for this symbol (go/tag.h).
exported := -Wl,--export-dynamic-symbol=otel_thread_ctx_v1
link = @mkdir -p $(@D); echo "  LD  $@"; $(CC) $(CFLAGS_ALL) $(LDFLAGS) $(exported) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

$(eval $(call layer,base,))
$(eval $(call layer,runtime,base))
ifneq ($(cross),yes) # no libraries of Debian's for another machine
$(eval $(call layer,http,runtime base))
$(eval $(call layer,observe,http runtime base))
endif

# Its own frames shall have cleanups in the unwind tables.
$O/runtime/cleanup_test.c.o: CFLAGS_ALL += -fexceptions

# Where its small functions lie decides a fifth of what a panic costs: not by chance.
$O/runtime/panic.c.o $O/pic/runtime/panic.c.o: CFLAGS_ALL += -falign-functions=64

layers := $(patsubst %,$O/lib/libbh_%.a,observe http runtime base)

# C++ where a library is C++; its headers are not ours to warn about.
$O/%.cc.o: %.cc
	@mkdir -p $(@D); echo "  CXX $<"; $(CXX) $(CXXFLAGS_ALL) $(own) -MMD -MP -c -o $@ $<
$O/pic/%.cc.o: %.cc
	@mkdir -p $(@D); $(CXX) $(CXXFLAGS_ALL) -fPIC $(own) -MMD -MP -c -o $@ $<
$O/%.o: %
	@mkdir -p $(@D); echo "  CC  $<"; $(CC) $(CFLAGS_ALL) -Iinclude -Itest $(own) -MMD -MP -c -o $@ $<
$O/pic/%.o: %
	@mkdir -p $(@D); $(CC) $(CFLAGS_ALL) -fPIC -Iinclude $(own) -MMD -MP -c -o $@ $<

# Its tests do what the sanitizer is against.
$O/runtime/signal_test.c.o: own = -Iruntime -fno-sanitize=undefined

# ---- what every target needs ---------------------------------------------
-include $(wildcard tools/*.mk bench/*.mk examples/*.mk test/*.mk http/*.mk observe/*.mk fuzz/*.mk \
                    tools/*/*.mk examples/*/*.mk test/*/*.mk)

all: $O/libbulkhead.a $O/libbulkhead.so $(patsubst %.c,$O/%,$(wildcard examples/*.c))
$O/examples/%: $O/examples/%.c.o $O/libbulkhead.a ; $(link)
$O/libbulkhead.a: $(patsubst %,$O/%.o,$(sources)) ; @rm -f $@; $(AR) qcs $@ $^
$O/libbulkhead.so: $(patsubst %,$O/pic/%.o,$(sources)) tools/dev/bulkhead.map
	@echo "  LD  $@"; $(CC) $(CFLAGS_ALL) $(LDFLAGS) -shared -Wl,-soname,libbulkhead.so.0 \
	    -Wl,--version-script=tools/dev/bulkhead.map -o $@ $(filter %.o,$^) $(LIBS)

# ---- what people type ----------------------------------------------------
# Packages come first, then a second make: what is on the disk (a compiler, the
# parser's sources) decides what there is to build.
deps: ; @tools/deps.sh
test: deps
	@$(MAKE) --no-print-directory all
	@tools/dev/suite.sh $(MAKE) O=$O $(suites)
suites := test-runner test-units conformance test-lab test-faults test-gdb test-browser test-headers test-install test-wire test-observe test-instructions

# The programs beside the sources, lowest layer first.
test-units: $(tests) ; @tools/dev/units.sh $(tests)
clean: ; rm -rf build
.PHONY: all deps test test-units clean
.SECONDARY:
-include $(shell find $O -name '*.d' 2>/dev/null)

# Bulkhead: the whole build.  GNU make, no configure step.
#
#   make               build the libraries, programs and tests
#   make run           install what is needed, build, serve the crash lab on 127.0.0.1:$(PORT)
#   make test          install what is needed, build, run the whole suite
#   make lint          layers, style, headers
#   make bench-fibers  bench-panic  bench-crashstorm      ours and the peers, same run
#   make conformance   Go's rules case by case
#   make install PREFIX=/usr/local
#   SAN=asan|ubsan|tsan make test      CC=clang make test
#
# A layer's sources see include/ and their own folder; they cannot see another
# layer's private headers, nor (tools/dev/layers.sh) include a higher layer's
# public ones.

CC     ?= cc
ifeq ($(origin CC),default)
CC     := gcc
endif
SAN    ?=
OPT    ?= -O2
PORT   ?= 8080
PREFIX ?= /usr/local
ARCH   ?= $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
VERSION := 0.1.0

san.asan  := address
san.ubsan := undefined
san.tsan  := thread
sanflags  := $(if $(SAN),-fsanitize=$(san.$(SAN)) -fno-sanitize-recover=all)

O      ?= build/$(notdir $(CC))$(SAN:%=-%)$(patsubst -O2,,$(OPT))$(if $(filter $(ARCH),$(shell uname -m)),,-$(ARCH))
WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla \
          -Wundef -Wcast-qual -Wformat=2 -Wno-cast-function-type \
          $(if $(findstring clang,$(CC)),,-Wjump-misses-init -Wclobbered)
CFLAGS_ALL := -std=gnu17 $(OPT) -g $(WARN) -Werror -fno-strict-aliasing -fno-omit-frame-pointer \
          -fstack-clash-protection -fno-optimize-sibling-calls -pthread -D_GNU_SOURCE \
          -DBH_VERSION='"$(VERSION)"' $(sanflags) $(CFLAGS)
LIBS   := -pthread -ldl
RUNENV ?=

all:

# ---- layers -------------------------------------------------------------
# $(call layer,NAME,LOWER LAYERS): one archive, and one program per *_test.c
define layer
$1.src  := $$(filter-out %_test.c,$$(wildcard $1/*.c)) $$(wildcard $1/*_$(ARCH).S)
$1.obj  := $$(patsubst %,$O/%.o,$$($1.src))
$1.test := $$(patsubst %.c,$O/%,$$(wildcard $1/*_test.c))
$O/lib/libbh_$1.a: $$($1.obj) ; @mkdir -p $$(@D); rm -f $$@; $$(AR) rcs $$@ $$^
$O/$1/%.o $O/pic/$1/%.o: own = -I$1
$$($1.test): $O/%: $O/%.c.o $O/test/test.c.o $$(patsubst %,$O/lib/libbh_%.a,$1 $2)
	$$(link)
all: $O/lib/libbh_$1.a $$($1.test)
tests += $$($1.test)
sources += $$($1.src)
endef

link = @mkdir -p $(@D); echo "  LD  $@"; $(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

$(eval $(call layer,base,))
$(eval $(call layer,runtime,base))
$(eval $(call layer,http,runtime base))
$(eval $(call layer,observe,http runtime base))

layers := $(patsubst %,$O/lib/libbh_%.a,observe http runtime base)

$O/%.o: %
	@mkdir -p $(@D); echo "  CC  $<"; $(CC) $(CFLAGS_ALL) -Iinclude -Itest $(own) -MMD -MP -c -o $@ $<
$O/pic/%.o: %
	@mkdir -p $(@D); $(CC) $(CFLAGS_ALL) -fPIC -Iinclude $(own) -MMD -MP -c -o $@ $<

# ---- what every target needs ---------------------------------------------
-include $(wildcard tools/*.mk bench/*.mk examples/*.mk test/*.mk http/*.mk)

all: $O/libbulkhead.a $O/libbulkhead.so
$O/libbulkhead.a: $(patsubst %,$O/%.o,$(sources)) ; @rm -f $@; $(AR) rcs $@ $^
$O/libbulkhead.so: $(patsubst %,$O/pic/%.o,$(sources)) tools/dev/bulkhead.map
	@echo "  LD  $@"; $(CC) $(CFLAGS_ALL) $(LDFLAGS) -shared -Wl,-soname,libbulkhead.so.0 \
	    -Wl,--version-script=tools/dev/bulkhead.map -o $@ $(filter %.o,$^) $(LIBS)

clean: ; rm -rf build
.PHONY: all clean
.SECONDARY:
-include $(shell find $O -name '*.d' 2>/dev/null)

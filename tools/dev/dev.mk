# dev.mk -- checks that are not the code's own tests: style, headers, the
# installed tree, other machines.

lint: ; @tools/dev/lint.sh
test-headers: ; @tools/dev/headers.sh

# Advice by clang-tidy (.clang-tidy), if it is there.
tidy:
	@for f in $(filter-out %.S,$(sources)); do clang-tidy -quiet $$f -- -std=gnu17 -D_GNU_SOURCE \
	    -DBH_VERSION='""' -Iinclude -I$$(dirname $$f) -isystem $(LLHTTP_INCLUDE) -DLLHTTP_STRICT_MODE=1 2>/dev/null; done

# ---- the installed tree ----------------------------------------------------
major   := $(firstword $(subst ., ,$(VERSION)))
headers := $(shell find include -name '*.h')
libdir  ?= $(PREFIX)/lib
dest     = $(DESTDIR)$(PREFIX)

install: all
	install -d $(DESTDIR)$(libdir)/pkgconfig $(sort $(patsubst include/%,$(dest)/include/%,$(dir $(headers))))
	for h in $(headers); do install -m 644 $$h $(dest)/$$h || exit; done
	install -m 644 $O/libbulkhead.a $(DESTDIR)$(libdir)/
	install -m 755 $O/libbulkhead.so $(DESTDIR)$(libdir)/libbulkhead.so.$(VERSION)
	ln -sf libbulkhead.so.$(VERSION) $(DESTDIR)$(libdir)/libbulkhead.so.$(major)
	ln -sf libbulkhead.so.$(major) $(DESTDIR)$(libdir)/libbulkhead.so
	install -d $(dest)/bin $(dest)/share/bulkhead
	install -m 755 $(bh_report) $(dest)/bin/
	install -m 644 docs/panic-report.schema.json $(dest)/share/bulkhead/
	install -m 644 tools/gdb/bulkhead-gdb.py $(dest)/share/bulkhead/
	sed -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' tools/dev/bulkhead.pc.in \
	    >$(DESTDIR)$(libdir)/pkgconfig/bulkhead.pc

# README's example, built with nothing but pkg-config's answer, in both ways.
test-install: all ; @tools/dev/install_test.sh $O "$(MAKE) O=$O CC=$(CC)" "$(CC)"

# ---- other ways to run the unit tests ---------------------------------------
valgrind := valgrind -q --error-exitcode=99 --suppressions=tools/dev/valgrind.supp
test-valgrind: $(tests)
	@TEST_TIMEOUT=20 BH_TEST_SEEDS=1 TEST_RUN='$(valgrind)' tools/dev/units.sh $(tests)

# Debian's cross compiler and user-mode emulator; only for x86-64 hosts.
aarch64 := aarch64-linux-gnu
test-aarch64: ; @tools/deps.sh build aarch64
	@$(MAKE) --no-print-directory CC=$(aarch64)-gcc ARCH=aarch64 O=build/aarch64 test-units \
	    TEST_RUN='qemu-aarch64 -L /usr/$(aarch64)' TEST_EMULATED=1 TEST_TIMEOUT=10 BH_TEST_SEEDS=1

.PHONY: tidy lint install test-headers test-install test-valgrind test-aarch64

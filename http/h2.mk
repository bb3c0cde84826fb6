# h2.mk -- the fuzzer of HTTP/2: a whole server, built for it in a folder of its own.
#
#   make fuzz-http2 FUZZ_SECONDS=20

fuzz-h2.dir := $O/fuzz-http2
fuzz-h2.run  = $(shell clang -print-file-name=libclang_rt.fuzzer_no_main-$(ARCH).a)
$(fuzz-h2.dir)/http2: fuzz/http2_fuzz.c FORCE
	@$(MAKE) --no-print-directory CC=clang SAN=asan O=$(fuzz-h2.dir) CFLAGS='-fsanitize=fuzzer-no-link -w' \
	    $(patsubst %,$(fuzz-h2.dir)/lib/libbh_%.a,http runtime base)
	@echo "  FUZZ $@"; clang -std=gnu17 -O1 -g -D_GNU_SOURCE -Iinclude -fsanitize=address,fuzzer-no-link \
	    -fno-omit-frame-pointer -o $@ $< $(patsubst %,$(fuzz-h2.dir)/lib/libbh_%.a,http runtime base) \
	    $(fuzz-h2.run) $(LIBS) -lstdc++ -lm
# Faults of handlers are the runtime's to take.
fuzz-http2: $(fuzz-h2.dir)/http2
	@mkdir -p $(fuzz-h2.dir)/corpus; $< -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -timeout=20 -detect_leaks=0 \
	    -handle_segv=0 -handle_bus=0 -handle_fpe=0 -print_final_stats=1 \
	    -artifact_prefix=$(fuzz-h2.dir)/ $(fuzz-h2.dir)/corpus fuzz/corpus/http2
fuzz: fuzz-http2
FORCE:
.PHONY: fuzz-http2 FORCE

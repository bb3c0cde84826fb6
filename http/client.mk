# client.mk -- fuzzers of what the client reads: heads of replies, held against llhttp; URLs.

fuzz.client := -std=gnu17 -O1 -g -D_GNU_SOURCE -DLLHTTP_STRICT_MODE=1 -w -Iinclude -Ihttp \
               -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

$O/fuzz/response: fuzz/response_fuzz.c http/client/response.c http/head.c http/chunk.c $(wildcard http/*.h http/client/*.h)
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) $(fuzz.client) -isystem $(LLHTTP_INCLUDE) -o $@ \
	    $(filter %.c,$^) $(llhttp.names:%=$(LLHTTP_SOURCE)/%.c)
$O/fuzz/url: fuzz/url_fuzz.c http/url.c http/target.c base/arena.c $(wildcard include/bulkhead/*/*.h)
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) $(fuzz.client) -o $@ $(filter %.c,$^)
fuzz-response fuzz-url: fuzz-%: $O/fuzz/%
	@mkdir -p $O/fuzz/corpus-$*; $< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 \
	    -print_final_stats=1 -artifact_prefix=$O/fuzz/$*- $O/fuzz/corpus-$* fuzz/corpus/$*
fuzz: fuzz-response fuzz-url
.PHONY: fuzz-response fuzz-url

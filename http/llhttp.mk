# llhttp.mk -- the parsers that the fuzzer holds ours against, from Debian's packages:
# llhttp's sources (node-llhttp), compiled here in strict mode.  No part of the server.
#
#   LLHTTP_SOURCE=, LLHTTP_INCLUDE=   where its .c files and llhttp.h are
#   make fuzz-http FUZZ_SECONDS=20    our parser against llhttp, coverage-guided

LLHTTP_SOURCE  ?= /usr/share/llhttp
LLHTTP_INCLUDE ?= /usr/share/include/llhttp
FUZZ_SECONDS   ?= 20
FUZZ_CC        ?= clang

llhttp.names := llhttp api http

# The fuzzer links the parser's files only: they do not know the runtime.
fuzz.out  := $O/fuzz/http
fuzz.src  := fuzz/http_parse_fuzz.c http/head.c http/target.c http/chunk.c
fuzz.flag := -std=gnu17 -O1 -g -D_GNU_SOURCE -DLLHTTP_STRICT_MODE=1 \
             -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
$(fuzz.out): $(fuzz.src) $(wildcard http/*.h)
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) $(fuzz.flag) -w -Iinclude -Ihttp -isystem $(LLHTTP_INCLUDE) \
	    -o $@ $(fuzz.src) $(llhttp.names:%=$(LLHTTP_SOURCE)/%.c)
fuzz-http: $(fuzz.out)
	@mkdir -p $O/fuzz/corpus; $(fuzz.out) -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 \
	    -print_final_stats=1 -artifact_prefix=$O/fuzz/ $O/fuzz/corpus fuzz/corpus/http
fuzz: fuzz-http
.PHONY: fuzz fuzz-http

# fuzz.mk -- libFuzzer's targets: one line each, at the end.
#
#   make fuzz FUZZ_SECONDS=20       all, two at a time; one line for each; fails if any finds something
#   make fuzz-json                  one of them
#   build/gcc/fuzz/json FILE        an input again
#
# Everything they make is in $O/fuzz: NAME the program, NAME.corpus what it has learnt,
# NAME.log, NAME-crash-... what it has found, lib the whole library, built for it.
# fuzz/corpus/NAME is where each begins.

LLHTTP_SOURCE  ?= /usr/share/llhttp
LLHTTP_INCLUDE ?= /usr/share/include/llhttp
FUZZ_SECONDS   ?= 20
FUZZ_CC        ?= clang

fuzz.flags := -std=gnu17 -O1 -g -D_GNU_SOURCE -w -fno-omit-frame-pointer -Iinclude -Ihttp -Ihttp/client \
              -Ihttp/middleware -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
fuzz.headers := $(wildcard fuzz/*.h include/bulkhead/*/*.h http/*.h http/*/*.h)

# The whole library, for targets that parse with a call or a server.
fuzz.lib  := $(patsubst %,$O/fuzz/lib/lib/libbh_%.a,http runtime base)
fuzz.libs := $(LIBS) -lstdc++ -lm
$(fuzz.lib) &: FORCE
	@$(MAKE) --no-print-directory CC=$(FUZZ_CC) SAN=asan O=$O/fuzz/lib CFLAGS='-fsanitize=fuzzer-no-link -w' $(fuzz.lib)

# $(call fuzzer,NAME,SOURCES,FLAGS AND LIBRARIES,OPTIONS OF libFuzzer)
define fuzzer
$O/fuzz/$1: fuzz/$1_fuzz.c $2 $(fuzz.headers)
	@mkdir -p $$(@D); echo "  FUZZ $$@"; $(FUZZ_CC) $(fuzz.flags) -o $$@ $$(filter %.c %.a,$$^) $3
fuzz-$1: $O/fuzz/$1 ; @fuzz/run.sh $O/fuzz $(FUZZ_SECONDS) '$1 $4'
fuzz.runs += '$1 $4'
fuzz.programs += $O/fuzz/$1
.PHONY: fuzz-$1
endef
fuzz: ; @$(MAKE) --no-print-directory O=$O $(fuzz.programs) && fuzz/run.sh $O/fuzz $(FUZZ_SECONDS) $(fuzz.runs)
FORCE:
.PHONY: fuzz FORCE

# The parsers that others wrote, to hold ours against: llhttp's sources (node-llhttp), built in
# strict mode; libhttp-parser-dev; libwslay-dev.  No part of the server.
llhttp := -DLLHTTP_STRICT_MODE=1 -isystem $(LLHTTP_INCLUDE) $(patsubst %,$(LLHTTP_SOURCE)/%.c,llhttp api http)
# A server in the process: faults of handlers are the runtime's to take, main is its own.
server := -detect_leaks=0 -handle_segv=0 -handle_bus=0 -handle_fpe=0 -timeout=20
no_main = -fno-sanitize=fuzzer -fsanitize=fuzzer-no-link \
          $(shell $(FUZZ_CC) -print-file-name=libclang_rt.fuzzer_no_main-$(ARCH).a)

$(eval $(call fuzzer,http,fuzz/oracle_llhttp.c fuzz/oracle_http_parser.c http/head.c http/target.c http/chunk.c,$(llhttp) -lhttp_parser))
$(eval $(call fuzzer,response,http/client/response.c http/head.c http/chunk.c,$(llhttp)))
$(eval $(call fuzzer,url,http/url.c http/target.c base/arena.c))
$(eval $(call fuzzer,fields,$(patsubst %,http/middleware/%.c,range accept address credentials),,-max_len=512))
$(eval $(call fuzzer,ws,http/ws_frame.c http/ws_deflate.c http/ws_extension.c,-lwslay -lz))
$(eval $(call fuzzer,proxy,http/proxy_parse.c))
$(eval $(call fuzzer,trace,observe/propagate.c observe/record.c,,-max_len=1024))
$(eval $(call fuzzer,form,$(fuzz.lib),$(fuzz.libs)))
$(eval $(call fuzzer,json,$(fuzz.lib),$(fuzz.libs)))
$(eval $(call fuzzer,http2,$(fuzz.lib),$(no_main) $(fuzz.libs),-max_len=2048 $(server)))

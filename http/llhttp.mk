# llhttp.mk -- the HTTP/1 head parser, compiled from what Debian's package
# node-llhttp installs.  Nothing of it is in this tree.  Strict mode, no lenient
# flag; symbols stay out of the shared library's interface.
#
#   LLHTTP_SOURCE=, LLHTTP_INCLUDE=   where its .c files and llhttp.h are
#   make fuzz-http FUZZ_SECONDS=20    our parser against llhttp, coverage-guided

LLHTTP_SOURCE  ?= /usr/share/llhttp
LLHTTP_INCLUDE ?= /usr/share/include/llhttp
FUZZ_SECONDS   ?= 20
FUZZ_CC        ?= clang

llhttp.names := llhttp api http
llhttp.obj   := $(llhttp.names:%=$O/llhttp/%.o)
llhttp.pic   := $(llhttp.names:%=$O/pic/llhttp/%.o)
# Generated code of others: our warnings do not apply to it.
llhttp.flags := -w -DLLHTTP_STRICT_MODE=1 -fvisibility=hidden -I$(LLHTTP_INCLUDE)

$(llhttp.obj): $O/llhttp/%.o: | $(LLHTTP_SOURCE)/%.c
	@mkdir -p $(@D); echo "  CC  $(LLHTTP_SOURCE)/$*.c"; \
	    $(CC) $(CFLAGS_ALL) $(llhttp.flags) -c -o $@ $(LLHTTP_SOURCE)/$*.c
$(llhttp.pic): $O/pic/llhttp/%.o: | $(LLHTTP_SOURCE)/%.c
	@mkdir -p $(@D); $(CC) $(CFLAGS_ALL) -fPIC $(llhttp.flags) -c -o $@ $(LLHTTP_SOURCE)/$*.c
$(LLHTTP_SOURCE)/%.c:
	@echo "$@ is missing: install node-llhttp (make deps), or set LLHTTP_SOURCE and LLHTTP_INCLUDE" >&2; false

$O/lib/libbh_http.a $O/libbulkhead.a: $(llhttp.obj)
$O/libbulkhead.so: $(llhttp.pic)
$O/http/head.c.o $O/pic/http/head.c.o: own = -Ihttp -DLLHTTP_STRICT_MODE=1 -isystem $(LLHTTP_INCLUDE)

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

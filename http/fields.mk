# fields.mk -- the fuzzer of the header fields that middleware acts on.
#
#   make fuzz-fields FUZZ_SECONDS=20

fuzz-fields.out := $O/fuzz/fields
fuzz-fields.src := fuzz/fields_fuzz.c $(addprefix http/middleware/,range.c accept.c address.c credentials.c)
$(fuzz-fields.out): $(fuzz-fields.src) http/middleware/fields.h
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) -std=gnu17 -O1 -g -D_GNU_SOURCE -iquote http/middleware -fno-omit-frame-pointer \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $(fuzz-fields.src)
fuzz-fields: $(fuzz-fields.out)
	@mkdir -p $O/fuzz/fields-corpus; $(fuzz-fields.out) -max_total_time=$(or $(FUZZ_SECONDS),20) -max_len=512 -timeout=5 \
	    -print_final_stats=1 -artifact_prefix=$O/fuzz/ $O/fuzz/fields-corpus fuzz/corpus/fields
fuzz: fuzz-fields
.PHONY: fuzz-fields

# ws.mk -- fuzzing of what reads bytes before or beside HTTP: WebSocket, the PROXY protocol.
#
#   make fuzz-ws FUZZ_SECONDS=20      frames and compression, against libwslay (libwslay-dev)
#   make fuzz-proxy FUZZ_SECONDS=20   headers of the PROXY protocol

wsfuzz.flag := -std=gnu17 -O1 -g -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined \
               -fno-sanitize-recover=undefined -fno-omit-frame-pointer -w -Iinclude -Ihttp

$O/fuzz/ws: fuzz/ws_fuzz.c http/ws_frame.c http/ws_deflate.c http/ws_extension.c http/ws_frame.h
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) $(wsfuzz.flag) -o $@ $(filter %.c,$^) -lwslay -lz
$O/fuzz/proxy: fuzz/proxy_fuzz.c http/proxy_parse.c http/proxy.h
	@mkdir -p $(@D); echo "  FUZZ $@"; $(FUZZ_CC) $(wsfuzz.flag) -o $@ $(filter %.c,$^)
fuzz-ws fuzz-proxy: fuzz-%: $O/fuzz/%
	@mkdir -p $O/fuzz/$*-corpus; $< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 \
	    -print_final_stats=1 -artifact_prefix=$O/fuzz/ $O/fuzz/$*-corpus fuzz/corpus/$*
fuzz: fuzz-ws fuzz-proxy
.PHONY: fuzz-ws fuzz-proxy

# Our HTTP server, nginx, h2o, Go and the kernel alone: CPU time per request, idle memory.
#
#     make bench-http SECONDS=3 RUNS=5

bench-http.bin := $O/bench/http
bench-http.own := $(patsubst %,$(bench-http.bin)/%,hello floor idle disconnect rate)

$(bench-http.bin)/hello $(bench-http.bin)/disconnect: %: %.c.o $(patsubst %,$O/lib/libbh_%.a,http runtime base)
	$(link)
$(bench-http.bin)/floor: $(bench-http.bin)/floor.c.o ; $(link)
$(bench-http.bin)/idle $(bench-http.bin)/rate: %: %.c.o ; $(link)
all: $(bench-http.own)

$(bench-http.bin)/go_http: bench/peers/go/http.go
	@mkdir -p $(@D); echo "  GO  $<"; GO111MODULE=off go build -o $@ $<
$(bench-http.bin)/h2o_http: bench/peers/h2o/http.c
	@mkdir -p $(@D); echo "  CC  $<"; $(CC) -O2 -o $@ $< -lh2o-evloop -lssl -lcrypto

bench-http: bench-deps
	@$(MAKE) --no-print-directory O=$O run-$@
run-bench-http: $(bench-http.own) $(bench-http.bin)/go_http $(bench-http.bin)/h2o_http
	@BENCH_SECONDS=$(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),3) \
	    bench/http/run.sh $(bench-http.bin)
	@$(bench-http.bin)/disconnect 1000
.PHONY: bench-http run-bench-http

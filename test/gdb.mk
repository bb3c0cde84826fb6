# Goroutines in gdb: tools/gdb/bulkhead-gdb.py on a live process and a core file.

$O/test/gdb/target: $O/test/gdb/target.c.o $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)

test-gdb: $O/test/gdb/target ; @test/gdb/test.sh $<

all: $O/test/gdb/target
more_suites += test-gdb
.PHONY: test-gdb

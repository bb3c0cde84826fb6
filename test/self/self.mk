# The test of the test runner.

$O/test/self/self: $O/test/self/self.c.o $O/test/test.c.o $(patsubst %,$O/lib/libbh_%.a,runtime base)
	$(link)
all: $O/test/self/self
test-runner: $O/test/self/self ; @test/self/check.sh $<
.PHONY: test-runner

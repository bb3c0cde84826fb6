// The tests of bench/panic.c in Go.
package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

const (
	panics = 1000000
	faults = 100000
	calls  = 100000000
	depth  = 50
)

var sink int
var nowhere *int

//go:noinline
func touch(counter *int) { *counter++ }

//go:noinline
func one(x int) (result int) {
	defer func() {
		if recover() != nil {
			result = 1
		}
	}()
	panic(x)
}

//go:noinline
func null(x int) (result int) {
	defer func() {
		if recover() != nil {
			result = x
		}
	}()
	return *nowhere
}

var always = true

//go:noinline
func raise(x int) int {
	if always {
		panic(x)
	}
	return x
}

//go:noinline
func descend(depth int, counter *int) int {
	defer touch(counter)
	if depth == 0 {
		return raise(depth)
	}
	return descend(depth-1, counter) + 1
}

//go:noinline
func frames(x int) (result int) {
	counter := x
	defer func() {
		if recover() != nil {
			result = 1
		}
	}()
	return descend(depth-1, &counter)
}

//go:noinline
func descendBare(depth int) int {
	if depth == 0 {
		return raise(depth)
	}
	return descendBare(depth-1) + 1
}

//go:noinline
func bare(x int) (result int) {
	defer func() {
		if recover() != nil {
			result = x
		}
	}()
	return descendBare(depth - 1)
}

func each(fn func(int) int, count int) float64 {
	start := time.Now()
	for i := 0; i < count; i++ {
		fn(i)
	}
	return float64(time.Since(start)) / float64(count)
}

//go:noinline
func plain(x int) int {
	sink = x
	return x
}

var counter int

//go:noinline
func deferring(x int) int {
	defer touch(&counter)
	sink = x
	return x
}

//go:noinline
func calling(x int) int {
	sink = x
	touch(&counter)
	return x
}

//go:noinline
func pointed(x int) (result int) {
	defer func() {
		if recover() != nil {
			result = 1
		}
	}()
	sink = x
	return x
}

func least(fn func(int) int) float64 {
	best := each(fn, calls/10)
	for i := 1; i < 10; i++ {
		if t := each(fn, calls/10); t < best {
			best = t
		}
	}
	return best
}

func print(metric string, value float64) { fmt.Printf("%s\t%.4g\n", metric, value) }

func main() {
	runtime.GOMAXPROCS(1)
	switch os.Args[len(os.Args)-1] {
	case "one":
		print("panic_one_ns", each(one, panics))
	case "null":
		print("panic_null_ns", each(null, faults))
	case "frames":
		print("panic_50_frames_ns", each(frames, panics/10))
	case "bare":
		print("panic_50_bare_ns", each(bare, panics/10))
	case "defer":
		print("defer_ns", least(deferring)-least(calling))
	case "point":
		print("point_ns", least(pointed)-least(plain))
	default:
		fmt.Fprintln(os.Stderr, "usage: panic TEST")
		os.Exit(2)
	}
}

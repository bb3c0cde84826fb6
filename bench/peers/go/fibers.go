// The tests of bench/fibers.c in Go.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	yields     = 2500000
	spawns     = 1000000
	trips      = 1000000
	crossTrips = 20000
	leaves     = 1000000
	depth      = 17
	leafSteps  = 500
	selects    = 2000000
	locks      = 50000000
	timers     = 2000000
	parked     = 1000000
	queuedN    = 20000
	hogs       = 20
)

func print(metric string, value float64) { fmt.Printf("%s\t%.4g\n", metric, value) }

func since(start time.Time) float64 { return float64(time.Since(start)) }

func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var pages float64
	fmt.Sscan(strings.Fields(string(text))[1], &pages)
	return pages * float64(os.Getpagesize())
}

// Use memory and give it back: see bench_warm in bench.h.
func warm(size int) {
	m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err == nil {
		syscall.Munmap(m)
	}
}

func yield() {
	var done sync.WaitGroup
	start := time.Now()
	done.Add(2)
	for i := 0; i < 2; i++ {
		go func() {
			for i := 0; i < yields; i++ {
				runtime.Gosched()
			}
			done.Done()
		}()
	}
	done.Wait()
	print("yield_ns", since(start)/(2*yields))
}

func spawn() {
	start := time.Now()
	for i := 0; i < spawns/100; i++ {
		var done sync.WaitGroup
		done.Add(100)
		for k := 0; k < 100; k++ {
			go done.Done()
		}
		done.Wait()
	}
	print("spawn_ns", since(start)/spawns)
}

func trip(n int, pinned bool) float64 {
	there, back := make(chan int), make(chan int)
	if pinned {
		runtime.LockOSThread()
	}
	go func() {
		if pinned {
			runtime.LockOSThread()
		}
		for i := 0; i < n; i++ {
			back <- <-there
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	return since(start) / float64(n)
}

func pingpong() { print("pingpong_ns", trip(trips, false)) }
func cross()    { print("cross_us", trip(crossTrips, true)/1e3) }

func selecting() {
	var c [4]chan int
	for i := range c {
		c[i] = make(chan int, 1)
		c[i] <- i
	}
	start := time.Now()
	for i := 0; i < selects; i++ {
		select {
		case v := <-c[0]:
			c[0] <- v
		case v := <-c[1]:
			c[1] <- v
		case v := <-c[2]:
			c[2] <- v
		case v := <-c[3]:
			c[3] <- v
		}
	}
	print("select_ns", since(start)/selects)
}

func skynet(up chan int64, number, size int64) {
	if size == 1 {
		up <- number
		return
	}
	sums := make(chan int64)
	var sum int64
	for i := int64(0); i < 10; i++ {
		go skynet(sums, number+i*(size/10), size/10)
	}
	for i := 0; i < 10; i++ {
		sum += <-sums
	}
	up <- sum
}

func runSkynet() {
	top := make(chan int64)
	start := time.Now()
	go skynet(top, 0, leaves)
	if <-top != leaves*(leaves-1)/2 {
		panic("sum")
	}
	print(fmt.Sprintf("skynet_%dp_ms", runtime.GOMAXPROCS(0)), since(start)/1e6)
}

func work(x uint64, steps int) uint64 {
	for i := 0; i < steps; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

func forkjoin(done *sync.WaitGroup, result *uint64, depth int) {
	if depth == 0 {
		*result = work(88172645463325252, leafSteps)
	} else {
		var both sync.WaitGroup
		var left, right uint64
		both.Add(2)
		go forkjoin(&both, &left, depth-1)
		go forkjoin(&both, &right, depth-1)
		both.Wait()
		*result = left + right
	}
	done.Done()
}

func runForkjoin() {
	var done sync.WaitGroup
	var result uint64
	start := time.Now()
	done.Add(1)
	go forkjoin(&done, &result, depth)
	done.Wait()
	if result != work(88172645463325252, leafSteps)<<depth {
		panic("sum")
	}
	print(fmt.Sprintf("forkjoin_%dp_ms", runtime.GOMAXPROCS(0)), since(start)/1e6)
}

var guarded int
var lock sync.Mutex

func mutex() {
	start := time.Now()
	for i := 0; i < locks; i++ {
		lock.Lock()
		guarded = i
		lock.Unlock()
	}
	print("mutex_ns", since(start)/locks)
}

func timer() {
	start := time.Now()
	for i := 0; i < timers; i++ {
		time.NewTimer(time.Hour).Stop()
	}
	print("timer_ns", since(start)/timers)
}

func rearm() {
	t := time.NewTimer(time.Hour)
	start := time.Now()
	for i := 0; i < timers; i++ {
		t.Reset(time.Hour)
		t.Stop()
	}
	print("rearm_ns", since(start)/timers)
}

func park() {
	gate := make(chan int)
	var done sync.WaitGroup
	warm(6 << 30)
	before, start := resident(), time.Now()
	done.Add(parked)
	for i := 0; i < parked; i++ {
		go func() {
			<-gate
			done.Done()
		}()
		if i%100 == 99 {
			runtime.Gosched()
		}
	}
	runtime.Gosched()
	print("park_us", since(start)/parked/1e3)
	print("park_bytes", (resident()-before)/parked)
	start = time.Now()
	close(gate)
	done.Wait()
	print("wake_ns", since(start)/parked)
}

func queued() {
	var done sync.WaitGroup
	var started int32
	done.Add(queuedN)
	before := resident()
	time.Sleep(time.Millisecond)
	for i := 0; i < queuedN; i++ {
		go func() {
			atomic.AddInt32(&started, 1)
			done.Done()
		}()
	}
	bytes := resident() - before
	if atomic.LoadInt32(&started) == 0 {
		print("queued_bytes", bytes/queuedN)
	}
	done.Wait()
}

func hog() {
	var worst time.Duration
	for i := 0; i < hogs; i++ {
		var done sync.WaitGroup
		done.Add(1)
		go func() {
			for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
				work(1, 1000)
			}
			done.Done()
		}()
		start := time.Now()
		runtime.Gosched()
		if d := time.Since(start); d > worst {
			worst = d
		}
		done.Wait()
	}
	print("hog_ms", float64(worst)/1e6)
}

func main() {
	tests := map[string]struct {
		procs int
		run   func()
	}{
		"yield": {1, yield}, "spawn": {1, spawn}, "pingpong": {1, pingpong}, "cross": {2, cross},
		"skynet1": {1, runSkynet}, "skynet2": {2, runSkynet},
		"forkjoin1": {1, runForkjoin}, "forkjoin2": {2, runForkjoin},
		"select": {1, selecting}, "mutex": {1, mutex}, "timer": {1, timer}, "rearm": {1, rearm},
		"park": {1, park}, "queued": {1, queued}, "hog": {1, hog},
	}
	test, ok := tests[os.Args[len(os.Args)-1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: fibers TEST")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(test.procs)
	test.run()
}

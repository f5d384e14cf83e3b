// Goroutines blocks some goroutines in all ways there are, and prints on command what Go's own runtime
// says of them.
//
//	block    starts them
//	label    starts some that have labels
//	leak     starts some that nobody can wake any more, and has the collector find them, where it does that
//	many N   starts N more that are alike
//	lock N   starts N that wait for a mutex, 3 for another, 2 to read and 1 to write behind a third: "locked", and
//	         the addresses of the four semaphores
//	swap N   starts N that take two mutexes, one after the other, all the time: "swapping", and the addresses
//	         of their semaphores
//	work N   starts N that make others, which come and go on stacks of all sizes
//	count    answers with the number of goroutines
//	collect  collects garbage
//	profile  prints what /debug/pprof/goroutine?debug=1 gives: "N lines", the lines, "end of text"
//	dump     the same of debug=2
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const forever = 24 * time.Hour

// More ways to block, of programs with C code.
var more []func()

//go:noinline
func receives(channel chan int) { <-channel }

//go:noinline
func sends(channel chan int) { channel <- 1 }

//go:noinline
func selects(one, other chan int) {
	select {
	case <-one:
	case other <- 1:
	}
}

func locks(mutex *sync.Mutex) { mutex.Lock() }

func reads(mutex *sync.RWMutex) { mutex.RLock() }

func writes(mutex *sync.RWMutex) { mutex.Lock() }

func waits(condition *sync.Cond) {
	condition.L.Lock()
	condition.Wait()
}

//go:noinline
func sleeps() { time.Sleep(forever) }

//go:noinline
func awaits(group *sync.WaitGroup) { group.Wait() }

// Waits in Go's poller.
func polls() {
	reader, writer, err := os.Pipe()
	check(err)
	_, err = reader.Read(make([]byte, 1))
	check(err)
	runtime.KeepAlive(writer)
}

// Waits in the kernel.
func calls() {
	var ends [2]int
	check(syscall.Pipe(ends[:]))
	_, err := syscall.Read(ends[0], make([]byte, 1))
	check(err)
}

// Keeps a thread to itself.
func lockedReceives(channel chan int) {
	runtime.LockOSThread()
	receives(channel)
}

// Never leaves its CPU by itself.
func runs() {
	for sum := 0; sum >= 0; {
		sum ^= 1
	}
}

//go:noinline
func descends(depth int, channel chan int) int {
	if depth == 0 {
		<-channel
	}
	var room [64]byte
	room[depth%64] = byte(depth)
	return descends(depth-1, channel) + int(room[1])
}

type receiver struct{ channel chan int }

func (r receiver) Receive() { <-r.channel }

type wrapper struct{ *receiver }

type pair[T any] struct{ first, second T }

//go:noinline
func (p *pair[T]) receives(channel chan T) { p.first = <-channel }

// Blocked in a deferred call while it panics.
func panics(channel chan int) {
	defer func() { receives(channel) }()
	var nothing *pair[int]
	nothing.first = 1
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func times(count int, start func()) {
	for ; count > 0; count-- {
		go start()
	}
}

func block() {
	channel := make(chan int)
	var none chan int
	times(5, func() { receives(channel) })
	times(3, func() { sends(make(chan int)) })
	times(1, func() { receives(none) })
	times(4, func() { selects(channel, none) })
	times(1, func() { select {} })
	mutex, shared := &sync.Mutex{}, &sync.RWMutex{}
	mutex.Lock()
	shared.Lock()
	times(2, func() { locks(mutex) })
	times(2, func() { reads(shared) })
	condition := sync.NewCond(&sync.Mutex{})
	times(2, func() { waits(condition) })
	group := &sync.WaitGroup{}
	group.Add(1)
	times(2, func() { awaits(group) })
	times(3, sleeps)
	times(2, polls)
	times(2, calls)
	times(1, func() { lockedReceives(channel) })
	times(1, func() { descends(20, channel) })
	times(1, func() { descends(2000, channel) })
	var behind interface{ Receive() } = wrapper{&receiver{channel}}
	times(2, behind.Receive)
	go behind.Receive()
	times(1, func() { (&pair[int]{}).receives(channel) })
	times(1, func() { panics(channel) })
	times(1, runs)
	for _, start := range more {
		start()
	}
	settle()
}

// What waits for locks, and where: a mutex's semaphore is its second word of four bytes, and readers wait at
// the fourth one of a lock for both, which begins with a mutex of the writers.
func contend(count int) string {
	first, second, shared := &sync.Mutex{}, &sync.Mutex{}, &sync.RWMutex{}
	first.Lock()
	second.Lock()
	shared.Lock()
	times(count, func() { locks(first) })
	times(3, func() { locks(second) })
	times(2, func() { reads(shared) })
	times(1, func() { writes(shared) })
	group := &sync.WaitGroup{}
	group.Add(1)
	times(2, func() { awaits(group) })
	settle()
	text := "locked"
	for _, at := range []uintptr{
		uintptr(unsafe.Pointer(first)) + 4, uintptr(unsafe.Pointer(second)) + 4,
		uintptr(unsafe.Pointer(shared)) + 12, uintptr(unsafe.Pointer(shared)) + 4,
	} {
		text += fmt.Sprintf(" %#x", at)
	}
	return text
}

//go:noinline
func takesFirst(mutex *sync.Mutex) { take(mutex) }

//go:noinline
func takesSecond(mutex *sync.Mutex) { take(mutex) }

func take(mutex *sync.Mutex) {
	mutex.Lock()
	runtime.Gosched()
	mutex.Unlock()
}

func swap(count int) string {
	first, second := &sync.Mutex{}, &sync.Mutex{}
	times(count, func() {
		for {
			takesFirst(first)
			takesSecond(second)
		}
	})
	return fmt.Sprintf("swapping %#x %#x", uintptr(unsafe.Pointer(first))+4, uintptr(unsafe.Pointer(second))+4)
}

// Waits with labels.
//
//go:noinline
func labelled(channel chan int, labels ...string) {
	go pprof.Do(context.Background(), pprof.Labels(labels...), func(context.Context) {
		receives(channel)
	})
}

func label() {
	channel := make(chan int)
	labelled(channel)
	for count := 0; count < 3; count++ {
		labelled(channel, "handler", "/a", "tenant", "one")
	}
	labelled(channel, "tenant", "two", "handler", "/a")
	labelled(channel, "state", "its own", "pid", "", "", "no name")
	labelled(channel, "quoted\"\\\n\x01", "\xff\xfeé\u0301\u00a0\u4e16\U0001f600\u200b")
	for _, count := range []int{8, 9, 20, 60} {
		labels := make([]string, 2*count)
		for at := range labels {
			labels[at] = fmt.Sprint("label ", at)
		}
		labelled(channel, labels...)
	}
	// What a goroutine has, those that it starts have too, and more if it says so.
	pprof.Do(context.Background(), pprof.Labels("outer", "1", "both", "1"), func(outer context.Context) {
		go receives(channel)
		pprof.Do(outer, pprof.Labels("both", "2", "inner", "2"), func(context.Context) {
			go receives(channel)
		})
	})
	settle()
}

// Go 1.27 has a profile for them.
func leak() {
	times(3, func() { receives(make(chan int)) })
	times(2, func() {
		mutex := &sync.Mutex{}
		mutex.Lock()
		locks(mutex)
	})
	settle()
	if leaked := pprof.Lookup("goroutineleak"); leaked != nil {
		check(leaked.WriteTo(io.Discard, 0))
	}
}

// Waits until no goroutine is on its way to where it stays: a running one is so, and this one.
func settle() {
	for calm := 0; calm < 3; {
		time.Sleep(20 * time.Millisecond)
		text := string(dump())
		if strings.Count(text, " [running") <= 2 && !strings.Contains(text, " [runnable") {
			calm++
		} else if strings.Count(text, " [running")+strings.Count(text, " [runnable") <= 2 {
			calm++
		} else {
			calm = 0
		}
	}
}

func dump() []byte {
	for size := 1 << 20; ; size *= 2 {
		text := make([]byte, size)
		if used := runtime.Stack(text, true); used < size {
			return text[:used]
		}
	}
}

func profile() []byte {
	var text bytes.Buffer
	check(pprof.Lookup("goroutine").WriteTo(&text, 1))
	return text.Bytes()
}

// Comes and goes, on stacks of all sizes.
func work(count int) {
	for ; count > 0; count-- {
		go func() {
			for {
				done := make(chan int)
				go func() { grows(64); done <- 1 }()
				<-done
			}
		}()
	}
}

//go:noinline
func grows(depth int) int {
	var room [128]byte
	if depth == 0 {
		runtime.Gosched()
		return 0
	}
	room[depth] = 1
	return grows(depth-1) + int(room[depth-1])
}

func main() {
	runtime.GOMAXPROCS(4)
	out := bufio.NewWriter(os.Stdout)
	say := func(line string) {
		fmt.Fprintln(out, line)
		out.Flush()
	}
	say("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		number := 0
		if len(words) > 1 {
			number, _ = strconv.Atoi(words[1])
		}
		switch words[0] {
		case "block":
			block()
			say("blocked")
		case "label":
			label()
			say("labelled")
		case "leak":
			leak()
			say("leaked")
		case "many":
			channel := make(chan int)
			times(number, func() { receives(channel) })
			settle()
			say("many")
		case "lock":
			say(contend(number))
		case "swap":
			say(swap(number))
		case "work":
			work(number)
			say("working")
		case "count":
			say("count " + strconv.Itoa(runtime.NumGoroutine()))
		case "collect":
			runtime.GC()
			say("collected")
		case "profile", "dump":
			text := profile()
			if words[0] == "dump" {
				text = dump()
			}
			say(strconv.Itoa(bytes.Count(text, []byte("\n"))) + " lines")
			out.Write(text)
			say("end of text")
		}
	}
}

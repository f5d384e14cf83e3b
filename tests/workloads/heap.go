// Heap allocates in known functions, keeps some of it, and prints on command what Go's own runtime says
// of it. It collects garbage when it is told to, and at no other time.
//
//	keep N      allocates in all ways there are, N times; half of it is kept
//	grow MIB    keeps so much, in place of what it has grown by before
//	collect     collects garbage, twice: what was allocated before is told then
//	churn       allocates and collects from now on
//	profile     prints what /debug/pprof/heap?debug=1 gives: "N lines", the lines, "end of text"
//	write FILE  writes what /debug/pprof/heap gives
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
)

var (
	kept  []any
	grown []byte
	mutex sync.Mutex
)

type node struct {
	next *node
	room [240]byte
}

type pair[T any] struct{ first, second T }

func keep(what any) {
	mutex.Lock()
	kept = append(kept, what)
	mutex.Unlock()
}

//go:noinline
func large() []byte { return make([]byte, 1<<20) }

//go:noinline
func middling() *[40000]byte { return new([40000]byte) }

// The compiler puts it where it is called.
func inlined() *node { return &node{} }

//go:noinline
func list(length int) *node {
	var head *node
	for ; length > 0; length-- {
		it := inlined()
		it.next = head
		head = it
	}
	return head
}

//go:noinline
func table(size int) map[int]string {
	all := map[int]string{}
	for at := 0; at < size; at++ {
		all[at] = strconv.Itoa(1000000 + at)
	}
	return all
}

//go:noinline
func grows(length int) []int {
	var all []int
	for at := 0; at < length; at++ {
		all = append(all, at)
	}
	return all
}

//go:noinline
func text(length int) string {
	var builder strings.Builder
	for builder.Len() < length {
		builder.WriteString("some text ")
	}
	return builder.String()
}

//go:noinline
func (p *pair[T]) fill(make func() T) *pair[T] {
	return &pair[T]{make(), make()}
}

type maker interface{ Make() []byte }

type inner struct{ size int }

func (i inner) Make() []byte { return make([]byte, i.size) }

type wrapper struct{ *inner }

//go:noinline
func descends(depth int) []byte {
	if depth == 0 {
		return make([]byte, 300000)
	}
	all := descends(depth - 1)
	all[depth] = byte(depth)
	return all
}

// Allocates in all ways there are.
func allocate() []any {
	all := []any{
		large(), middling(), list(2000), table(3000), grows(20000), text(100000),
		(&pair[[]byte]{}).fill(func() []byte { return make([]byte, 70000) }),
		maker(wrapper{&inner{90000}}).Make(),
		descends(10), descends(50), descends(200),
	}
	done := make(chan []byte)
	go func() { done <- large() }()
	return append(all, <-done)
}

//go:noinline
func grow(mib int) {
	area := make([]byte, mib<<20)
	for at := 0; at < len(area); at += 4096 {
		area[at] = 1
	}
	// Without an allocation of its own, which might be sampled.
	grown = area
}

func churn() {
	for {
		list(100000)
		runtime.GC()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func profile() []byte {
	var text bytes.Buffer
	check(pprof.Lookup("heap").WriteTo(&text, 1))
	return text.Bytes()
}

func main() {
	debug.SetGCPercent(-1)
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
		case "keep":
			for ; number > 0; number-- {
				keep(allocate())
				allocate()
			}
			say("kept")
		case "grow":
			grow(number)
			say("grown")
		case "collect":
			runtime.GC()
			runtime.GC()
			say("collected")
		case "churn":
			go churn()
			say("churning")
		case "profile":
			text := profile()
			say(strconv.Itoa(bytes.Count(text, []byte("\n"))) + " lines")
			out.Write(text)
			say("end of text")
		case "write":
			file, err := os.Create(words[1])
			check(err)
			check(pprof.Lookup("heap").WriteTo(file, 0))
			check(file.Close())
			say("written")
		}
	}
	fmt.Println(len(kept), len(grown))
}

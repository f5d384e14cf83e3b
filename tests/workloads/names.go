// Names asks Go's own runtime what is at an address of this program: for each line of its input, an
// offset from main.main in bytes, it answers with the functions there, innermost inlined first, as
// "function<TAB>file<TAB>line", and a line with a dot.
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime"
	_ "runtime/pprof"
	"strconv"
	_ "unsafe"
)

// What runtime/pprof has the runtime do with the last address of a stack.
//
//go:linkname expand runtime/pprof.runtime_expandFinalInlineFrame
func expand(stack []uintptr) []uintptr

type number interface{ ~int | ~float64 }

// A generic function, which is kept as one.
//
//go:noinline
func sum[T number](values []T) T {
	var total T
	for _, value := range values {
		total += twice(value)
	}
	return total
}

func twice[T number](value T) T { return value + value }

type tree[T any] struct {
	left, right *tree[T]
	value       T
}

// A method of a generic type.
//
//go:noinline
func (t *tree[T]) walk(see func(T)) {
	if t != nil {
		t.left.walk(see)
		see(t.value)
		t.right.walk(see)
	}
}

type counter struct{ hits int }

func (c *counter) hit(by int) { c.hits += by }

// Three calls inlined into each other.
func first(c *counter, by int)  { c.hit(by + 1); second(c, by) }
func second(c *counter, by int) { c.hit(by * 3); third(c, by) }
func third(c *counter, by int) {
	if by > 2 {
		panic("too much")
	}
	c.hit(by)
}

//go:noinline
func work(by int) int {
	c := &counter{}
	func() {
		defer func() { c.hits++ }()
		first(c, by)
	}()
	root := &tree[int]{left: &tree[int]{value: 1}, value: 2}
	root.walk(func(value int) { c.hit(value) })
	return c.hits + sum([]int{by, 2}) + int(sum([]float64{1.5}))
}

func main() {
	if work(1) < 0 {
		os.Exit(1)
	}
	base := reflect.ValueOf(main).Pointer()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		offset, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			panic(err)
		}
		// The runtime takes these for return addresses.
		address := base + uintptr(offset) + 1
		frames := runtime.CallersFrames(expand([]uintptr{address}))
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			fmt.Fprintf(out, "%s\t%s\t%d\n", frame.Function, frame.File, frame.Line)
		}
		fmt.Fprintln(out, ".")
	}
}

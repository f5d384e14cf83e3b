// A method with type arguments of its own, beside those of its type: Go has such since 1.27.
package main

type box[T any] struct{ value T }

//go:noinline
func (b *box[T]) as[U any](change func(T) U) U { return change(b.value) }

var sizes = (&box[[]int]{}).as(func(values []int) map[string]int {
	return map[string]int{"values": len(values)}
})

func init() {
	if len(sizes) == 0 {
		panic("it was not called")
	}
}

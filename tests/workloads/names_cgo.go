// With this file the program of names.go is linked by the system's linker, and has C code in it.
package main

// static int three(void) { return 3; }
import "C"

func init() {
	if C.three() != 3 {
		panic("C cannot count")
	}
}

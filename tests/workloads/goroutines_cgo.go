// Goroutines in C, and in Go again that C calls.
package main

/*
#include <unistd.h>

void comesBack(void);

static void sleep_in_c(void) { sleep(86400); }
static void call_back(void) { comesBack(); }
*/
import "C"

//export comesBack
func comesBack() { receives(make(chan int)) }

func sleepsInC() { C.sleep_in_c() }

func callsBack() { C.call_back() }

func init() {
	more = append(more, func() {
		times(3, sleepsInC)
		times(2, callsBack)
	})
}

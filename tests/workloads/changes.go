// Changes does not stay what it is.
//
//	PROGRAM...  lets goroutines wait for a moment, then executes the first of these programs, with the
//	            others and itself for arguments: all in a circle
//	-fork       starts itself again and again, with -brief, and prints "child PID" each time
//	-brief      lets goroutines wait for a moment, and ends
//
// It prints "ready" first.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const goroutines = 200

//go:noinline
func waits(channel chan int) { <-channel }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A moment of another length each time.
func moment() {
	time.Sleep(time.Duration(time.Now().UnixNano()%40) * time.Millisecond)
}

func main() {
	if os.Args[1] == "-fork" {
		fmt.Println("ready")
		for {
			child := exec.Command("/proc/self/exe", "-brief")
			check(child.Start())
			fmt.Println("child", child.Process.Pid)
			check(child.Wait())
		}
	}
	channel := make(chan int)
	for number := 0; number < goroutines; number++ {
		go waits(channel)
	}
	fmt.Println("ready")
	moment()
	if os.Args[1] != "-brief" {
		next := append(os.Args[1:], os.Args[0])
		check(syscall.Exec(next[0], next, os.Environ()))
	}
}

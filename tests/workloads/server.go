// Server answers HTTP requests while many goroutines wait, and says on command what they wait for, as a
// library in a service does that profiles it.
//
// Its argument is how many wait. It prints "ready PORT", and then obeys:
//
//	dump N  from now on, ten times a second, the goroutine profile with debug=N into memory
//	rest    no more: "rested after COUNT dumps"
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// What a request takes: some tens of microseconds, and garbage.
const blockBytes = 16 << 10

//go:noinline
func waits(channel chan int) { <-channel }

// Stands for a request that another service does not answer.
//
//go:noinline
func calls(depth int, channel chan int) {
	if depth == 0 {
		waits(channel)
	} else {
		calls(depth-1, channel)
	}
}

func answer(out http.ResponseWriter, _ *http.Request) {
	block := make([]byte, blockBytes)
	fmt.Fprintf(out, "%x\n", sha256.Sum256(block))
}

// Dumps until it is told to stop; answers how often it did.
func dump(debug int, stop chan bool, count chan int) {
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for dumps := 0; ; dumps++ {
		select {
		case <-stop:
			count <- dumps
			return
		case <-ticks.C:
		}
		var text bytes.Buffer
		check(pprof.Lookup("goroutine").WriteTo(&text, debug))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	waiting, err := strconv.Atoi(os.Args[1])
	check(err)
	channel := make(chan int)
	for number := 0; number < waiting; number++ {
		go calls(number%8, channel)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	http.HandleFunc("/", answer)
	go http.Serve(listener, nil)
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	stop, count := make(chan bool), make(chan int)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "dump":
			debug, err := strconv.Atoi(argument)
			check(err)
			go dump(debug, stop, count)
		case "rest":
			stop <- true
			dumps := <-count
			runtime.GC()
			fmt.Printf("rested after %d dumps\n", dumps)
		}
	}
}

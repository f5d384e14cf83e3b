// A web service with the seven faults of Holmes' README, one behind each path. It prints `ready PORT`, and
// ends with its input.
//
//	/make1gb     keeps a slice of 1 GiB
//	/lockorder1, /lockorder2, then /req: two locks taken in both orders; all that ask for one wait
//	/chanblock   sends on a channel that nobody receives from
//	/leak        leaves a goroutine behind that waits for a channel to be closed
//	/alloc       allocates a few MiB in many pieces, and keeps them while it answers
//	/busy        computes for ever
//	/cgo         blocks a thread in C
package main

/*
#include <unistd.h>

// Not a tail call: its frame would be gone.
int block_in_c(void) {
	unsigned left = sleep(1000);
	return (int)left + 1;
}
*/
import "C"

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"
)

var (
	kept    [][]byte
	keeping sync.Mutex
	first   sync.Mutex
	second  sync.Mutex
	never   = make(chan int)
	sink    uint64
)

//go:noinline
func makeOneGB() []byte {
	slice := make([]byte, 1<<30)
	for at := 0; at < len(slice); at += 4096 {
		slice[at] = 1
	}
	return slice
}

func keep(w http.ResponseWriter, _ *http.Request) {
	slice := makeOneGB()
	keeping.Lock()
	kept = append(kept, slice)
	keeping.Unlock()
	io.WriteString(w, "kept")
}

//go:noinline
func lockInOrder(from, to *sync.Mutex) {
	from.Lock()
	defer from.Unlock()
	time.Sleep(300 * time.Millisecond)
	to.Lock()
	defer to.Unlock()
}

func lockOrder1(http.ResponseWriter, *http.Request) { lockInOrder(&first, &second) }

func lockOrder2(http.ResponseWriter, *http.Request) { lockInOrder(&second, &first) }

//go:noinline
func request(w http.ResponseWriter, _ *http.Request) {
	first.Lock()
	defer first.Unlock()
	io.WriteString(w, "answered")
}

//go:noinline
func channelBlock(w http.ResponseWriter, _ *http.Request) {
	never <- 1
	io.WriteString(w, "sent")
}

//go:noinline
func leak(w http.ResponseWriter, _ *http.Request) {
	tasks := make(chan int, 3)
	go consume(tasks)
	for task := 0; task < 3; task++ {
		tasks <- task
	}
	io.WriteString(w, "left behind")
}

// Ends when the channel is closed, which nobody does.
//
//go:noinline
func consume(tasks chan int) {
	for task := range tasks {
		sink += uint64(task)
	}
}

//go:noinline
func allocate() [][]byte {
	pieces := make([][]byte, 0, 512)
	for len(pieces) < cap(pieces) {
		piece := make([]byte, 64<<10)
		for at := 0; at < len(piece); at += 4096 {
			piece[at] = 1
		}
		pieces = append(pieces, piece)
	}
	return pieces
}

func alloc(w http.ResponseWriter, _ *http.Request) {
	pieces := allocate()
	time.Sleep(2 * time.Second)
	fmt.Fprint(w, len(pieces))
	// The compiler sees that only their number is wanted, and they would be garbage before.
	runtime.KeepAlive(pieces)
}

//go:noinline
func busy(http.ResponseWriter, *http.Request) {
	for {
		sink = sink*6364136223846793005 + 1442695040888963407
	}
}

func blockInC(http.ResponseWriter, *http.Request) { C.block_in_c() }

func main() {
	http.HandleFunc("/make1gb", keep)
	http.HandleFunc("/lockorder1", lockOrder1)
	http.HandleFunc("/lockorder2", lockOrder2)
	http.HandleFunc("/req", request)
	http.HandleFunc("/chanblock", channelBlock)
	http.HandleFunc("/leak", leak)
	http.HandleFunc("/alloc", alloc)
	http.HandleFunc("/busy", busy)
	http.HandleFunc("/cgo", blockInC)
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "well") })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go http.Serve(listener, nil)
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

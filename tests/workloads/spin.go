// Does a little work now and then until it is told "spin"; then spins until it is told "rest".
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

var sink uint64

//go:noinline
func spinInGo(length time.Duration) {
	end := time.Now().Add(length)
	value := sink
	for time.Now().Before(end) {
		for step := uint64(0); step < 30000; step++ {
			value = value*6364136223846793005 + step
		}
	}
	sink = value
}

//go:noinline
func quietWorkInGo(length time.Duration) {
	end := time.Now().Add(length)
	value := sink
	for time.Now().Before(end) {
		for step := uint64(0); step < 30000; step++ {
			value = value*2862933555777941757 + step
		}
	}
	sink = value
}

func main() {
	var spinning atomic.Bool
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			spin := lines.Text() == "spin"
			spinning.Store(spin)
			if spin {
				fmt.Println("spinning")
			} else {
				fmt.Println("resting")
			}
		}
		os.Exit(0)
	}()
	fmt.Println("ready")
	for pause := 60; ; {
		if spinning.Load() {
			spinInGo(5 * time.Millisecond)
		} else {
			quietWorkInGo(7 * time.Millisecond)
			// Steps of 17 ms in a range of 40 ms: never in step with the sampler.
			pause = 60 + (pause+17)%40
			time.Sleep(time.Duration(pause) * time.Millisecond)
		}
	}
}

// `touch MIB` writes to every page of two slices; `half` drops one of them and has the runtime give
// it back.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
)

var kept, dropped []byte

//go:noinline
func touchInGo(bytes int) []byte {
	area := make([]byte, bytes)
	for at := 0; at < len(area); at += 4096 {
		area[at] = 1
	}
	return area
}

func main() {
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var mib int
		if count, _ := fmt.Sscanf(lines.Text(), "touch %d", &mib); count == 1 {
			kept = touchInGo(mib << 19)
			dropped = touchInGo(mib << 19)
		} else {
			dropped = nil
			debug.FreeOSMemory()
		}
		fmt.Println("done")
	}
	fmt.Println(len(kept), len(dropped))
}

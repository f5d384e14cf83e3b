// Havoc is a Go program whose runtime's memory is written over, as a wild pointer would. Built with
// -checklinkname=0: it names variables of the runtime.
//
// Its argument is how many goroutines wait. It prints "ready", and then obeys:
//
//	more N  starts N more: "more"
//	WORD    one of the kinds below: does the damage, says "done", and goes on doing it; nothing of Go's
//	        scheduler or collector runs any more
//
// The goroutines that are damaged are those it started; the runtime's own and the one that does it are not.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

//go:linkname allglen runtime.allglen
var allglen uintptr

//go:linkname allgptr runtime.allgptr
var allgptr uintptr

// Words of a goroutine's record, the same in all versions.
const (
	stackLow  = 0
	stackHigh = 1
	stackNow  = 7
	codeNow   = 8
	// Fewer than there are.
	recordWords = 38
)

const undisturbed = "asyncpreemptoff=1"

const (
	// What is taken for a list at the most, and records of those.
	most        = 1 << 20
	copies      = 1 << 17
	recordBytes = 512
	deepBytes   = 2 << 20
)

var (
	first, count       uintptr
	list               uintptr
	fakes, fakeRecords uintptr
	deep               uintptr
	kind               int
	state              uint64 = 88172645463325252
)

var kinds = []string{
	"length",    // the list is said to be endless
	"overrun",   // it is longer than what holds it
	"nowhere",   // it is not mapped
	"entries",   // records are anywhere
	"cycle",     // all records are the same one
	"records",   // records hold anything
	"frames",    // stacks hold anything
	"bounds",    // stacks are anywhere, and enormous
	"scattered", // very many records, each with a stack that is not mapped
	"deep",      // very many records, with a stack that never ends
	"lost",      // the same, and it leads all over the program's code
}

//go:noinline
func waits(channel chan int) { <-channel }

//go:nosplit
func word(at uintptr, index uintptr) *uintptr {
	return (*uintptr)(unsafe.Pointer(at + index*8))
}

//go:nosplit
func random() uintptr {
	state ^= state << 13
	state ^= state >> 7
	state ^= state << 17
	return uintptr(state)
}

// An address that looks like one.
//
//go:nosplit
func somewhere() uintptr { return random() & (1<<47 - 8) }

// Does the damage once.
//
//go:nosplit
func wreck() {
	switch kind {
	case 0:
		allglen = 1 << 60
	case 1:
		allglen = most
	case 2:
		allgptr = somewhere()
	case 3:
		for index := first; index < count; index++ {
			*word(list, index) = somewhere()
		}
	case 4:
		spread(*word(list, first), 0)
	case 5:
		for index := first; index < count; index++ {
			record := *word(list, index)
			for at := uintptr(0); at < recordWords; at++ {
				*word(record, at) = random()
			}
		}
	case 6:
		for index := first; index < count; index++ {
			record := *word(list, index)
			for at := *word(record, stackNow); at < *word(record, stackHigh); at += 8 {
				*word(at, 0) = random()
			}
		}
	case 7:
		for index := first; index < count; index++ {
			lose(*word(list, index))
		}
	case 8:
		for index := uintptr(0); index < copies; index++ {
			lose(fakeRecords + index*recordBytes)
		}
		spread(fakeRecords, recordBytes)
	case 9, 10:
		// Where its return addresses lead to.
		code, around := *word(*word(list, first), codeNow), uintptr(1)
		if kind == 10 {
			around = 256 << 10
		}
		for at := uintptr(0); at < deepBytes/8; at++ {
			*word(deep, at) = code + random()%around
		}
		for index := uintptr(0); index < copies; index++ {
			record := fakeRecords + index*recordBytes
			*word(record, stackLow), *word(record, stackHigh) = deep, deep+deepBytes
			*word(record, stackNow) = deep + 8 + index%1024*8
		}
		spread(fakeRecords, recordBytes)
	}
}

// Gives a record a stack that is not there.
//
//go:nosplit
func lose(record uintptr) {
	low := somewhere()&^0xfff | 0x1000
	*word(record, stackLow), *word(record, stackHigh) = low, low+1<<32
	*word(record, stackNow) = low + 0x800
}

// Makes a list of so many records as there may be, this far apart.
//
//go:nosplit
func spread(record, apart uintptr) {
	for index := uintptr(0); index < most; index++ {
		*word(fakes, index) = record + index%copies*apart
	}
	allgptr, allglen = fakes, most
}

//go:nosplit
func havoc() {
	// As Go's own calls do not, these tell nobody.
	pause := syscall.Timespec{Nsec: 1e6}
	wreck()
	done := [5]byte{'d', 'o', 'n', 'e', '\n'}
	syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&done)), 5)
	for {
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		// What is built once, and is slow, stays.
		if kind < 8 && kind != 4 && kind != 6 {
			wreck()
		}
	}
}

func room(bytes int) uintptr {
	made, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(&made[0]))
}

func start(number int) {
	channel := make(chan int)
	for ; number > 0; number-- {
		go waits(channel)
	}
	time.Sleep(100 * time.Millisecond)
}

func main() {
	// Nobody is interrupted: the one that does the damage would meet the scheduler.
	if os.Getenv("GODEBUG") != undisturbed {
		panic(syscall.Exec("/proc/self/exe", os.Args, []string{"GODEBUG=" + undisturbed}))
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	first = allglen
	number, _ := strconv.Atoi(os.Args[1])
	start(number)
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if more, found := strings.CutPrefix(lines.Text(), "more "); found {
			number, _ = strconv.Atoi(more)
			start(number)
			fmt.Println("more")
			continue
		}
		for kind = range kinds {
			if kinds[kind] == lines.Text() {
				break
			}
		}
		fakes, fakeRecords, deep = room(most*8), room(copies*recordBytes), room(deepBytes)
		list, count = allgptr, allglen
		for index := uintptr(0); index < copies; index++ {
			for at := uintptr(0); at < recordWords; at++ {
				*word(fakeRecords+index*recordBytes, at) = *word(*word(list, first), at)
			}
		}
		havoc()
	}
}

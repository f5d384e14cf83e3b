// `script` runs a fixed list of memory system calls, failing ones among them, and prints what it
// asked for. `touch MIB` maps that much and writes to every page of it; `drop` gives it back. `calls N`
// makes that many system calls that have nothing to do with memory, and prints the CPU time they took.
//
// Between reading `script` and answering, nothing but the script maps or unmaps anything.

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "control.h"

static struct {
    uint64_t mmap_calls, mmap_bytes;
    uint64_t munmap_bytes;
    uint64_t brk_calls, brk_grown, brk_shrunk;
    uint64_t mremap_calls, mremap_grown, mremap_shrunk;
    // Calls by which the process gained address space: what the mmap profile counts.
    uint64_t gains;
    uint64_t failed, surprises;
} asked;

static uint64_t page;

// Every call goes through syscall(), which keeps the frame pointer: the walk misses the function
// below, and finds memory_script() above it.
NAMED char *ask_mmap(void *at, uint64_t length, int flags) {
    long got = syscall(SYS_mmap, at, length, PROT_READ | PROT_WRITE,
                       flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    if (got == -1) {
        asked.failed++;
        return NULL;
    }
    asked.mmap_calls++;
    asked.gains++;
    asked.mmap_bytes += length;
    return (char *)got;
}

// `frees` is what is mapped in the range: what the caller knows and the kernel is not told.
NAMED void ask_munmap(char *at, uint64_t length, uint64_t frees) {
    if (syscall(SYS_munmap, at, length) != 0) {
        asked.failed++;
        return;
    }
    asked.munmap_bytes += frees;
}

NAMED char *ask_brk(char *end) { return (char *)syscall(SYS_brk, end); }

NAMED char *ask_mremap(char *at, uint64_t before, uint64_t after) {
    long got = syscall(SYS_mremap, at, before, after, (long)MREMAP_MAYMOVE, 0L);
    if (got == -1) {
        asked.failed++;
        return NULL;
    }
    asked.mremap_calls++;
    if (after > before) {
        asked.mremap_grown += after - before;
        asked.gains++;
    } else {
        asked.mremap_shrunk += before - after;
    }
    return (char *)got;
}

static void expect(int holds) { asked.surprises += !holds; }

NAMED void script_mappings(void) {
    // Lengths that are no whole pages count as they are asked for.
    char *odd = ask_mmap(NULL, 12345, 0);
    char *large = ask_mmap(NULL, 64u << 20, MAP_NORESERVE);
    for (int i = 0; i < 50; i++) {
        char *small = ask_mmap(NULL, 3 * page, 0);
        ask_munmap(small, 3 * page, 3 * page);
    }
    // Mapped over what is there: no munmap call, and one mmap more.
    expect(ask_mmap(large, 16 * page, MAP_FIXED) == large);
    // More than is mapped: the second half goes first, then all of it, then all of it again.
    char *range = ask_mmap(NULL, 16 * page, 0);
    ask_munmap(range + 8 * page, 8 * page, 8 * page);
    ask_munmap(range, 16 * page, 8 * page);
    ask_munmap(range, 16 * page, 0);
    ask_munmap(odd, 12345, 4 * page);
    ask_munmap(large, 64u << 20, 64u << 20);
    // What fails counts for nothing: no length, no such address, too much, not on a page.
    expect(ask_mmap(NULL, 0, 0) == NULL);
    expect(ask_mmap((void *)1, page, MAP_FIXED) == NULL);
    expect(ask_mmap(NULL, 1ull << 62, 0) == NULL);
    ask_munmap((char *)1, page, 0);
    ask_munmap(range, 0, 0);
}

// Moves the heap's end and keeps account of it.
NAMED void move_brk(int64_t delta) {
    char *before = ask_brk(NULL);
    char *after = ask_brk(before + delta);
    if (after != before + delta) {
        asked.failed++;
        return;
    }
    asked.brk_calls++;
    if (delta > 0) {
        asked.brk_grown += (uint64_t)delta;
        asked.gains++;
    } else {
        asked.brk_shrunk += (uint64_t)-delta;
    }
}

NAMED void script_heap(void) {
    move_brk(10000);
    move_brk(3 * (int64_t)page);
    move_brk(-(int64_t)page);
    move_brk(1);
    // Refused: the kernel answers with the end as it was.
    uint64_t failed = asked.failed;
    move_brk(1ll << 46);
    expect(asked.failed == failed + 1);
}

NAMED void script_moves(void) {
    char *area = ask_mmap(NULL, 4 * page, 0);
    area = ask_mremap(area, 4 * page, 40 * page);
    area = ask_mremap(area, 40 * page, 10 * page);
    area = ask_mremap(area, 10 * page, 10 * page);
    // No such mapping.
    expect(ask_mremap((char *)page, page, 2 * page) == NULL);
    ask_munmap(area, 10 * page, 10 * page);
}

NAMED void memory_script(void) {
    script_mappings();
    script_heap();
    script_moves();
    sink++;
}

NAMED void touch_pages(char *area, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += page) {
        ((volatile char *)area)[at] = 1;
    }
}

NAMED char *hold_memory(uint64_t bytes) {
    char *area = ask_mmap(NULL, bytes, 0);
    if (area != NULL) {
        touch_pages(area, bytes);
    }
    return area;
}

// CPU time of so many calls, in nanoseconds.
static uint64_t other_calls(uint64_t count) {
    struct timespec from, to;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (uint64_t call = 0; call < count; call++) {
        syscall(SYS_getppid);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    int64_t seconds = to.tv_sec - from.tv_sec;
    return (uint64_t)(seconds * 1000000000 + to.tv_nsec - from.tv_nsec);
}

int main(void) {
    page = (uint64_t)sysconf(_SC_PAGESIZE);
    char line[64], text[480];
    char *held = NULL;
    uint64_t held_bytes = 0;
    // Whatever libc sets up at first use, before anything is counted.
    snprintf(text, sizeof text, "%d %lu", 1, 1ul);
    expect(strtoul("1", NULL, 10) == 1);
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        memset(&asked, 0, sizeof asked);
        if (strncmp(line, "calls ", 6) == 0) {
            snprintf(text, sizeof text, "took %lu", other_calls(strtoul(line + 6, NULL, 10)));
            answer(text);
            continue;
        }
        if (strcmp(line, "script") == 0) {
            memory_script();
        } else if (strncmp(line, "touch ", 6) == 0 && held == NULL) {
            held_bytes = strtoul(line + 6, NULL, 10) << 20;
            held = hold_memory(held_bytes);
        } else if (strcmp(line, "drop") == 0 && held != NULL) {
            ask_munmap(held, held_bytes, held_bytes);
            held = NULL;
        }
        snprintf(text, sizeof text,
                 "asked mmap_calls=%lu mmap_bytes=%lu munmap_bytes=%lu brk_calls=%lu brk_grown=%lu "
                 "brk_shrunk=%lu mremap_calls=%lu mremap_grown=%lu mremap_shrunk=%lu gains=%lu "
                 "failed=%lu surprises=%lu",
                 asked.mmap_calls, asked.mmap_bytes, asked.munmap_bytes, asked.brk_calls,
                 asked.brk_grown, asked.brk_shrunk, asked.mremap_calls, asked.mremap_grown,
                 asked.mremap_shrunk, asked.gains, asked.failed, asked.surprises);
        answer(text);
    }
    return 0;
}

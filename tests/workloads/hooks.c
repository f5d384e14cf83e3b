// `hooks KIND TURNS`: how much longer a kind of work takes where the kernel calls something that does
// nothing. Prints `turn HOOK=PERCENT ...` for each turn; `nan` of a hook that this kernel does not have.
//
// The kinds: fault (first touches of pages), mmap (mappings made and removed). What is attached and taken away
// alternates every tenth of a second with nothing, so that a machine that becomes slower does so for both.
// Runs on one CPU; perf's events are that CPU's. Needs root.

#define _GNU_SOURCE
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "control.h"

enum { PAGE_BYTES = 4096, PAGES = 1024, MAPPINGS = 300, CHUNKS = 512, TURN_NS = 100000000 };

static char *pages;

static void touch_pages(void) {
    for (size_t at = 0; at < (size_t)PAGES * PAGE_BYTES; at += PAGE_BYTES) {
        ((volatile char *)pages)[at] = 1;
    }
    madvise(pages, (size_t)PAGES * PAGE_BYTES, MADV_DONTNEED);
}

static void map_and_unmap(void) {
    for (int i = 0; i < MAPPINGS; i++) {
        munmap(mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE_BYTES);
    }
}

// The kernel's own counter of minor faults; as one that samples after so many, which never come.
static int minor_faults(uint64_t period) {
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE,
                                    .size = sizeof event,
                                    .config = PERF_COUNT_SW_PAGE_FAULTS_MIN,
                                    .sample_period = period};
    return (int)syscall(SYS_perf_event_open, &event, -1, sched_getcpu(), -1, 0);
}

static int counted(void) { return minor_faults(0); }
static int sampled(void) { return minor_faults(UINT64_C(1) << 62); }

// A BPF program that returns at once, on a raw tracepoint.
static int empty_program(const char *tracepoint) {
    struct bpf_insn nothing[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
                                 {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
                           .insns = (uintptr_t)nothing,
                           .insn_cnt = 2,
                           .license = (uintptr_t) "GPL"};
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    union bpf_attr attach = {
        .raw_tracepoint = {.name = (uintptr_t)tracepoint, .prog_fd = (uint32_t)program}};
    int link = (int)syscall(SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, &attach, sizeof attach);
    close(program);
    return link;
}

static int page_fault_user(void) { return empty_program("page_fault_user"); }
static int sys_exit(void) { return empty_program("sys_exit"); }
static int mmap_lock_released(void) { return empty_program("mmap_lock_released"); }

typedef struct {
    const char *name;
    int (*attach)(void);
} Hook;

static const Hook of_faults[] = {{"minor-faults-counted", counted},
                                 {"minor-faults-sampled", sampled},
                                 {"page_fault_user", page_fault_user}};
static const Hook of_mappings[] = {{"sys_exit", sys_exit},
                                   {"mmap_lock_released", mmap_lock_released}};

static int by_size(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

// Nanoseconds that a chunk of work takes: the lower quartile of a tenth of a second, because what else the
// machine does only adds to it.
static double chunk_ns(void (*work)(void)) {
    uint64_t taken[CHUNKS], end = clock_ns(CLOCK_MONOTONIC) + TURN_NS;
    size_t count = 0;
    work();
    while (count < CHUNKS && (count == 0 || clock_ns(CLOCK_MONOTONIC) < end)) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        work();
        taken[count++] = clock_ns(CLOCK_MONOTONIC) - before;
    }
    qsort(taken, count, sizeof *taken, by_size);
    return (double)taken[count / 4];
}

int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int is_fault = count == 3 && strcmp(arguments[1], "fault") == 0;
    int is_mmap = count == 3 && strcmp(arguments[1], "mmap") == 0;
    long turns = count == 3 ? atol(arguments[2]) : 0;
    if (!(is_fault || is_mmap) || turns <= 0) {
        return 2;
    }
    void (*work)(void) = is_fault ? touch_pages : map_and_unmap;
    const Hook *hooks = is_fault ? of_faults : of_mappings;
    size_t all = is_fault ? sizeof of_faults / sizeof *hooks : sizeof of_mappings / sizeof *hooks;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((unsigned)sched_getcpu(), &here);
    pages = mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sched_setaffinity(0, sizeof here, &here) != 0 || pages == MAP_FAILED) {
        return 1;
    }
    // With huge pages there would be one fault where there should be 512. A kernel without them refuses, and
    // is as good.
    madvise(pages, (size_t)PAGES * PAGE_BYTES, MADV_NOHUGEPAGE);
    for (long turn = 0; turn < turns; turn++) {
        char text[256];
        size_t length = (size_t)snprintf(text, sizeof text, "turn");
        for (size_t i = 0; i < all; i++) {
            double without = chunk_ns(work);
            int hook = hooks[i].attach();
            double with = hook < 0 ? NAN : chunk_ns(work);
            close(hook);
            length += (size_t)snprintf(text + length, sizeof text - length, " %s=%.2f",
                                       hooks[i].name, 100 * (with / without - 1));
        }
        answer(text);
    }
    return 0;
}

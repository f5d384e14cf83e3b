// What the C workloads share: commands by line on standard input, answers by line on standard
// output, burning CPU time. Must not allocate: `memory.c` counts every mapping of its process.

#ifndef HOLMES_TESTS_CONTROL_H
#define HOLMES_TESTS_CONTROL_H

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// A function that keeps its name and its frame. `noipa` rather than `noinline`: without it GCC
// makes clones named `f.constprop.0`.
#define NAMED __attribute__((noipa))
#define MERGED static inline __attribute__((always_inline))

static volatile uint64_t sink;

MERGED uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Burns CPU time in the function it is merged into. The clock is read rarely: the leaf is to be that
// function, not libc's or the vDSO's.
MERGED void burn_ns(uint64_t ns) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + ns;
    do {
        for (uint64_t i = 0; i < 30000; i++) {
            sink = sink * 6364136223846793005u + i;
        }
    } while (clock_ns(CLOCK_MONOTONIC) < end);
}

// A pseudo-random number, so that no pattern of the program keeps step with the sampler.
MERGED uint64_t random_below(uint64_t limit) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

// Writes a line past stdio's buffer.
MERGED void answer(const char *line) {
    char text[512];
    int length = snprintf(text, sizeof text, "%s\n", line);
    // A test that no longer listens has ended: there is nobody to tell.
    ssize_t written = write(STDOUT_FILENO, text, (size_t)length);
    (void)written;
}

// Waits at most `wait_ms` (-1: for ever) for a command. Returns 1 with the line in `line`, 0 when
// there is none yet, -1 at the end of the input. Not every workload listens.
__attribute__((unused)) static int next_command(char *line, size_t size, int wait_ms) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&input, 1, wait_ms) <= 0) {
        return 0;
    }
    size_t used = 0;
    for (;;) {
        char byte;
        if (read(STDIN_FILENO, &byte, 1) != 1) {
            return -1;
        }
        if (byte == '\n') {
            line[used] = 0;
            return 1;
        }
        if (used + 1 < size) {
            line[used++] = byte;
        }
    }
}

#endif

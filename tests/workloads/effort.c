// `effort KIND AMOUNT` does a fixed amount of one kind of work when it is told `go`, and prints
// `done ELAPSED_NS CPU_NS`: by the wall clock, and of all its threads.
//
// The kinds: cpu, fault (first touches of pages), mmap (mappings made and removed, and nothing
// else), buffer (mappings made, written and removed), thread (threads created and joined), switch (two
// threads that take turns on a CPU, every ten microseconds or so), malloc (small objects allocated and
// given back). All of it 20 calls below main(): a stack that real
// programs have.

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "control.h"

enum { CALLS = 20, PAGE_BYTES = 4096, FAULTS_IN_A_ROUND = 1024, BUFFER_BYTES = 1 << 20 };

static int effort_cpu(void) {
    for (uint64_t i = 0; i < 100000; i++) {
        sink = sink * 6364136223846793005u + i;
    }
    return 1;
}

static int effort_fault(void) {
    size_t bytes = (size_t)FAULTS_IN_A_ROUND * PAGE_BYTES;
    static char *pages;
    if (!pages) {
        pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        // With huge pages there would be one fault where there should be 512. A kernel without
        // them refuses, and is as good.
        if (pages == MAP_FAILED || (madvise(pages, bytes, MADV_NOHUGEPAGE), 0)) {
            return 0;
        }
    }
    for (size_t at = 0; at < bytes; at += PAGE_BYTES) {
        pages[at] = 1;
    }
    return madvise(pages, bytes, MADV_DONTNEED) == 0;
}

static int effort_mmap(void) {
    char *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && munmap(page, PAGE_BYTES) == 0;
}

static int effort_buffer(void) {
    char *buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    if (buffer == MAP_FAILED) {
        return 0;
    }
    memset(buffer, 1, BUFFER_BYTES);
    // The compiler must not find out that nobody reads it.
    sink += (uint64_t)buffer[sink % BUFFER_BYTES];
    return munmap(buffer, BUFFER_BYTES) == 0;
}

static void *end_at_once(void *nothing) { return nothing; }

static int effort_thread(void) {
    pthread_t thread;
    return pthread_create(&thread, NULL, end_at_once, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static void take_a_turn(void) {
    for (uint64_t i = 0; i < 8330; i++) {
        sink = sink * 6364136223846793005u + i;
    }
}

static int there[2], back[2];

static void *other_turns(void *nothing) {
    char byte;
    while (read(there[0], &byte, 1) == 1) {
        take_a_turn();
        if (write(back[1], &byte, 1) != 1) {
            break;
        }
    }
    return nothing;
}

static int effort_switch(void) {
    static int begun;
    if (!begun) {
        pthread_t other;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(0, &one);
        // On several CPUs they would wait less, and switch more.
        begun = sched_setaffinity(0, sizeof one, &one) == 0 && pipe(there) == 0 &&
                pipe(back) == 0 && pthread_create(&other, NULL, other_turns, NULL) == 0;
    }
    char byte = 0;
    take_a_turn();
    return begun && write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
}

static int effort_malloc(void) {
    void *object = malloc(16 + sink % 1009);
    sink += (uintptr_t)object >> 4;
    free(object);
    return object != NULL;
}

NAMED long rounds(int (*once)(void), long amount, int calls) {
    if (calls > 1) {
        long all = rounds(once, amount, calls - 1);
        // Work behind the call: else it would be a jump, and its frame gone.
        sink += (uint64_t)all;
        return all;
    }
    long done = 0;
    while (done < amount && once()) {
        done++;
    }
    return done;
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        int (*once)(void);
    } kinds[] = {{"cpu", effort_cpu},
                 {"fault", effort_fault},
                 {"mmap", effort_mmap},
                 {"buffer", effort_buffer},
                 {"thread", effort_thread},
                 {"switch", effort_switch},
                 {"malloc", effort_malloc}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count != 3) {
        return 2;
    }
    int (*once)(void) = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(arguments[1], kinds[i].name) == 0) {
            once = kinds[i].once;
        }
    }
    long amount = atol(arguments[2]);
    if (!once || amount <= 0) {
        return 2;
    }
    char line[64], text[96];
    answer("ready");
    if (next_command(line, sizeof line, -1) != 1) {
        return 1;
    }
    uint64_t begin = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    long done = rounds(once, amount, CALLS);
    uint64_t end = clock_ns(CLOCK_MONOTONIC), cpu_end = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (done != amount) {
        answer("failed");
        return 1;
    }
    snprintf(text, sizeof text, "done %llu %llu", (unsigned long long)(end - begin),
             (unsigned long long)(cpu_end - cpu));
    answer(text);
    return 0;
}

// `hold MIB` takes that much memory and keeps it. `eat MIB [THREADS]` takes that much more, with so
// many threads at a time: meant for a cgroup that has not got it, so that the kernel kills the process.
// Where it is not killed it says so: a test without a limit must not take the machine's memory.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "control.h"

#define MOST_THREADS 16

// Every page is touched here, and nowhere else.
NAMED void touch_each(char *area, uint64_t bytes) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    for (uint64_t at = 0; at < bytes; at += page) {
        ((volatile char *)area)[at] = 1;
    }
    sink++;
}

// In small pages: a victim of some twenty megabytes would be a handful of huge ones, which are no
// sample of anything.
MERGED char *take(uint64_t bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (area == MAP_FAILED) {
        return NULL;
    }
    madvise(area, bytes, MADV_NOHUGEPAGE);
    return area;
}

NAMED void hold_some(uint64_t bytes) {
    char *area = take(bytes);
    if (area != NULL) {
        touch_each(area, bytes);
    }
    sink++;
}

NAMED void eat_everything(uint64_t bytes) {
    char *area = take(bytes);
    if (area != NULL) {
        touch_each(area, bytes);
    }
    sink++;
}

static void *eat(void *bytes) {
    eat_everything((uint64_t)bytes);
    return NULL;
}

static void eat_with(uint64_t bytes, unsigned threads) {
    pthread_t others[MOST_THREADS];
    for (unsigned i = 1; i < threads; i++) {
        pthread_create(&others[i], NULL, eat, (void *)(bytes / threads));
    }
    eat_everything(bytes / threads);
    for (unsigned i = 1; i < threads; i++) {
        pthread_join(others[i], NULL);
    }
}

int main(void) {
    char line[64];
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        char *rest = line;
        if (strncmp(line, "hold ", 5) == 0) {
            hold_some(strtoul(line + 5, NULL, 10) << 20);
            answer("holding");
        } else if (strncmp(line, "eat ", 4) == 0) {
            uint64_t bytes = strtoul(line + 4, &rest, 10) << 20;
            unsigned long threads = strtoul(rest, NULL, 10);
            answer("eating");
            eat_with(bytes, threads == 0 || threads > MOST_THREADS ? 1 : (unsigned)threads);
            answer("full");
        }
    }
    return 0;
}

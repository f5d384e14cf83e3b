// Allocates by name, and says how much. `halves`: one function keeps all it allocates, another gives
// every second object back. `kinds`: each of the allocator's functions, in a function of its own.
// `failing`: what fails, and what is freed again. `threads`: many threads that live shortly. `drop`
// gives everything back.
//
// What `loop SECONDS` does is for measurements: it allocates and gives back, and says how often.

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "control.h"

#define MIB (1024u * 1024u)
#define OBJECTS 262144u
#define THREADS 64u

// Not allocated, so that nothing is allocated but what is told.
static void *objects[OBJECTS];
static size_t used;

static void *keep(void *object) {
    if (object != NULL && used < OBJECTS) {
        objects[used++] = object;
    }
    return object;
}

// Between 16 bytes and 8 KiB: as with programs, most objects are small beside an interval.
MERGED size_t any_size(void) {
    return 16 + random_below(8176);
}

NAMED uint64_t keep_all(uint64_t bytes) {
    uint64_t done = 0;
    while (done < bytes) {
        size_t size = any_size();
        keep(malloc(size));
        done += size;
    }
    return done;
}

NAMED void give_back(void *object) {
    free(object);
    sink++;
}

NAMED uint64_t keep_half(uint64_t bytes, uint64_t *live) {
    uint64_t done = 0;
    for (int odd = 0; done < bytes; odd = !odd) {
        size_t size = any_size();
        void *object = malloc(size);
        done += size;
        if (odd) {
            give_back(object);
        } else {
            keep(object);
            *live += size;
        }
    }
    return done;
}

static void halves(void) {
    uint64_t live = 0;
    uint64_t all = keep_all(32 * MIB);
    uint64_t half = keep_half(64 * MIB, &live);
    char line[128];
    snprintf(line, sizeof line, "asked all=%lu half=%lu live=%lu", all, half, live);
    answer(line);
}

#define KIND(name, allocate)                                                                       \
    NAMED uint64_t name(uint64_t bytes) {                                                          \
        uint64_t done = 0;                                                                         \
        while (done < bytes) {                                                                     \
            size_t size = any_size() & ~(size_t)63;                                                \
            void *object = NULL;                                                                   \
            allocate;                                                                              \
            keep(object);                                                                          \
            done += size;                                                                          \
        }                                                                                          \
        return done;                                                                               \
    }

KIND(by_malloc, object = malloc(size))
KIND(by_calloc, object = calloc(size / 16, 16))
KIND(by_realloc, object = realloc(NULL, size))
KIND(by_array, object = reallocarray(NULL, size / 16, 16))
KIND(by_posix_memalign, if (posix_memalign(&object, 64, size) != 0) object = NULL)
KIND(by_aligned_alloc, object = aligned_alloc(64, size))
KIND(by_memalign, object = memalign(64, size))

// One object that grows from 64 KiB to 1 MiB: what it was before is given back each time.
NAMED uint64_t by_growing(void) {
    uint64_t done = 0;
    void *object = NULL;
    for (size_t size = 64 << 10; size <= MIB; size += 64 << 10) {
        object = realloc(object, size);
        done += size;
    }
    keep(object);
    return done;
}

static void kinds(void) {
    char line[512];
    snprintf(line, sizeof line,
             "asked by_malloc=%lu by_calloc=%lu by_realloc=%lu by_array=%lu "
             "by_posix_memalign=%lu by_aligned_alloc=%lu by_memalign=%lu by_growing=%lu",
             by_malloc(8 * MIB), by_calloc(8 * MIB), by_realloc(8 * MIB), by_array(8 * MIB),
             by_posix_memalign(8 * MIB), by_aligned_alloc(8 * MIB), by_memalign(8 * MIB),
             by_growing());
    answer(line);
}

// More than an address space has. Not a constant, or the compiler objects.
static volatile size_t too_much = (size_t)1 << 60;

NAMED uint64_t failing(void) {
    uint64_t failed = 0;
    failed += malloc(too_much) == NULL;
    failed += calloc(too_much, too_much) == NULL;
    void *none = NULL;
    failed += posix_memalign(&none, 64, too_much) != 0;
    failed += aligned_alloc(64, too_much) == NULL;
    // What cannot grow stays as it is.
    void *object = keep(malloc(4 * MIB));
    failed += realloc(object, too_much) == NULL;
    return failed;
}

NAMED void *allocate_in_thread(void *bytes) {
    keep_all((uint64_t)(uintptr_t)bytes);
    return NULL;
}

// One after the other: `keep` is not for several at a time.
static void threads(void) {
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, allocate_in_thread, (void *)(uintptr_t)(MIB / 2)) == 0) {
            pthread_join(thread, NULL);
        }
    }
    answer("asked threads");
}

NAMED void drop(void) {
    while (used > 0) {
        free(objects[--used]);
    }
}

// A malloc and a free at a time, eight in flight.
NAMED uint64_t churn(double seconds) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9);
    void *flight[8] = {NULL};
    uint64_t done = 0;
    do {
        for (unsigned i = 0; i < 512; i++) {
            free(flight[i % 8]);
            flight[i % 8] = malloc(16 + (done + i) % 1009);
        }
        done += 512;
    } while (clock_ns(CLOCK_MONOTONIC) < end);
    for (unsigned i = 0; i < 8; i++) {
        free(flight[i]);
    }
    return done;
}

int main(int argc, char **argv) {
    char line[128];
    // For a process that is gone soon: no command.
    if (argc > 1 && strcmp(argv[1], "short") == 0) {
        answer("ready");
        next_command(line, sizeof line, -1);
        halves();
        return 0;
    }
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        double seconds;
        if (strcmp(line, "halves") == 0) {
            halves();
        } else if (strcmp(line, "kinds") == 0) {
            kinds();
        } else if (strcmp(line, "failing") == 0) {
            snprintf(line, sizeof line, "asked failed=%lu", failing());
            answer(line);
        } else if (strcmp(line, "threads") == 0) {
            threads();
        } else if (strcmp(line, "drop") == 0) {
            drop();
            answer("asked nothing");
        } else if (sscanf(line, "loop %lf", &seconds) == 1) {
            snprintf(line, sizeof line, "pairs=%lu", churn(seconds));
            answer(line);
        } else if (strcmp(line, "exec") == 0) {
            execv(argv[0], argv);
        }
    }
    return 0;
}

// A program with an allocator of its own, whose functions call each other: `calloc` calls `malloc`,
// `realloc` calls `malloc` and `free`. Memory is never used again.
//
// `nested MIB` allocates by `calloc` and `realloc`. `leave` leaves a `malloc` of 64 MiB by a jump, and
// then allocates 8 MiB further up the stack.

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>

#include "control.h"

#define MIB (1024u * 1024u)
#define POOL (256u * MIB)
#define TO_BE_LEFT (64u * MIB)

static char pool[POOL] __attribute__((aligned(16)));
static size_t used;
static jmp_buf leaving;

NAMED void *malloc(size_t size) {
    if (size == TO_BE_LEFT) {
        longjmp(leaving, 1);
    }
    // The size is kept in front of the object.
    size_t whole = (size + 31) & ~(size_t)15;
    if (size > POOL || used + whole > POOL) {
        errno = ENOMEM;
        return NULL;
    }
    char *object = pool + used + 16;
    used += whole;
    *(size_t *)(object - 16) = size;
    return object;
}

NAMED void free(void *object) {
    sink += (uintptr_t)object;
}

// The pool is zero, but the compiler would make a `calloc` of `malloc` and `memset`.
NAMED void *calloc(size_t count, size_t size) {
    void *object = malloc(count * size);
    sink++;
    return object;
}

NAMED void *realloc(void *old, size_t size) {
    void *object = malloc(size);
    if (object != NULL && old != NULL) {
        size_t before = *(size_t *)((char *)old - 16);
        memcpy(object, old, before < size ? before : size);
        free(old);
    }
    return object;
}

NAMED void nested_in_calloc(uint64_t bytes) {
    for (uint64_t done = 0; done < bytes; done += 4096) {
        sink += (uintptr_t)calloc(256, 16);
    }
}

NAMED void nested_in_realloc(uint64_t bytes) {
    void *object = NULL;
    for (uint64_t done = 0; done < bytes; done += 4096) {
        object = realloc(object, 4096);
    }
    sink += (uintptr_t)object;
}

NAMED void allocate_further_up(uint64_t bytes) {
    for (uint64_t done = 0; done < bytes; done += 4096) {
        sink += (uintptr_t)malloc(4096);
    }
}

NAMED void leave_malloc(void) {
    if (setjmp(leaving) == 0) {
        sink += (uintptr_t)malloc(TO_BE_LEFT);
    }
}

// The stack pointer below which `leave_malloc` was: all that follows is further up.
NAMED void leave_far_down(unsigned depth) {
    volatile char room[512];
    room[0] = (char)depth;
    if (depth == 0) {
        leave_malloc();
    } else {
        leave_far_down(depth - 1);
    }
    sink += (uint64_t)room[0];
}

int main(void) {
    char line[128];
    unsigned mib;
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        if (sscanf(line, "nested %u", &mib) == 1) {
            nested_in_calloc((uint64_t)mib * MIB);
            nested_in_realloc((uint64_t)mib * MIB);
            answer("done");
        } else if (strcmp(line, "leave") == 0) {
            leave_far_down(16);
            allocate_further_up(8 * MIB);
            answer("done");
        }
    }
    return 0;
}

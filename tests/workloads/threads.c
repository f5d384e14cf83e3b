// `create N` creates N threads from create_workers() and keeps them until `release`.
//
// By clone() and not pthread_create(): Debian's libc has no frame pointers, so a frame-pointer walk
// from inside pthread_create() does not come back to its caller.

#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "control.h"

enum { STACK_BYTES = 16384, MOST_WORKERS = 20000 };

static uint32_t released;
static uint32_t alive;

// The threads have no thread-local storage of their own, so nothing of libc's may run in them but
// bare system calls.
static int worker(void *unused) {
    (void)unused;
    while (__atomic_load_n(&released, __ATOMIC_ACQUIRE) == 0) {
        syscall(SYS_futex, &released, FUTEX_WAIT, 0, NULL, NULL, 0);
    }
    __atomic_sub_fetch(&alive, 1, __ATOMIC_RELEASE);
    return 0;
}

NAMED int create_worker(char *stack_end) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    return clone(worker, stack_end, flags, NULL) > 0;
}

NAMED long create_workers(char *stacks, long count) {
    long created = 0;
    for (long i = 0; i < count; i++) {
        __atomic_add_fetch(&alive, 1, __ATOMIC_RELEASE);
        if (create_worker(stacks + (i + 1) * STACK_BYTES)) {
            created++;
        } else {
            __atomic_sub_fetch(&alive, 1, __ATOMIC_RELEASE);
        }
    }
    return created;
}

int main(void) {
    char *stacks = mmap(NULL, (size_t)MOST_WORKERS * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
        return 1;
    }
    answer("ready");
    char line[64], text[64];
    while (next_command(line, sizeof line, -1) > 0) {
        if (strncmp(line, "create ", 7) == 0) {
            long count = strtol(line + 7, NULL, 10);
            released = 0;
            long created = create_workers(stacks, count < MOST_WORKERS ? count : MOST_WORKERS);
            snprintf(text, sizeof text, "created %ld", created);
            answer(text);
        } else if (strcmp(line, "release") == 0) {
            __atomic_store_n(&released, 1, __ATOMIC_RELEASE);
            syscall(SYS_futex, &released, FUTEX_WAKE, MOST_WORKERS, NULL, NULL, 0);
            while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE) > 0) {
                usleep(1000);
            }
            answer("released");
        }
    }
    // The whole process, with the threads that still wait.
    _exit(0);
}

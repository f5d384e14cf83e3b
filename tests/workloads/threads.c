// `create N` creates N threads from create_workers() and keeps them until `release`.
//
// By pthread_create(), as programs do: the stack of a thread's creation leads through libc.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "control.h"

// The smallest stack that libc allows for, with room for its own thread data.
enum { STACK_BYTES = 65536, MOST_WORKERS = 20000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int released;
static pthread_t workers[MOST_WORKERS];

static void *worker(void *unused) {
    pthread_mutex_lock(&lock);
    while (!released) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    return unused;
}

NAMED int create_worker(pthread_t *thread) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    int failed = pthread_create(thread, &small, worker, NULL);
    pthread_attr_destroy(&small);
    return !failed;
}

NAMED long create_workers(long count) {
    long created = 0;
    while (created < count && create_worker(&workers[created])) {
        created++;
    }
    return created;
}

int main(void) {
    answer("ready");
    char line[64], text[64];
    long created = 0;
    while (next_command(line, sizeof line, -1) > 0) {
        if (strncmp(line, "create ", 7) == 0 && created == 0) {
            long count = strtol(line + 7, NULL, 10);
            released = 0;
            created = create_workers(count < MOST_WORKERS ? count : MOST_WORKERS);
            snprintf(text, sizeof text, "created %ld", created);
            answer(text);
        } else if (strcmp(line, "release") == 0) {
            pthread_mutex_lock(&lock);
            released = 1;
            pthread_cond_broadcast(&changed);
            pthread_mutex_unlock(&lock);
            while (created > 0) {
                pthread_join(workers[--created], NULL);
            }
            answer("released");
        }
    }
    // The whole process, with the threads that still wait.
    _exit(0);
}

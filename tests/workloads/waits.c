// Waits in known ways, measures how long itself, and says so: `waited NAME=TIMES:NANOSECONDS ...`.
//
// `script MS` sleeps, waits for a lock that is held for MS, and for a pipe; two threads share a CPU.
// `often MS` has two threads wake each other for MS, many thousand times, and says how many switches
// that were.
// `hang` leaves a thread waiting for a lock for ever, and says its address. `busy MS` does what `often MS` does,
// and leaves one of the two threads so.

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "control.h"

typedef struct {
    const char *name;
    uint64_t times;
    uint64_t nanoseconds;
} Waited;

enum { SLEEPS = 100, READS = 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t dead = PTHREAD_MUTEX_INITIALIZER;

NAMED void sleep_shortly(void) {
    struct timespec ten_ms = {.tv_nsec = 10000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &ten_ms, NULL);
    sink++; // Not a tail call: its frame would be gone.
}

NAMED void wait_for_lock(pthread_mutex_t *mutex) {
    pthread_mutex_lock(mutex);
    sink++;
}

NAMED int wait_for_pipe(int from) {
    char byte;
    ssize_t got = read(from, &byte, 1);
    sink++;
    return (int)got;
}

NAMED void share_a_cpu(uint64_t ns) {
    burn_ns(ns);
    sink++;
}

static void *sleeper(void *out) {
    Waited *waited = out;
    for (int i = 0; i < SLEEPS; i++) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        sleep_shortly();
        waited->nanoseconds += clock_ns(CLOCK_MONOTONIC) - before;
        waited->times++;
    }
    return NULL;
}

static void *locker(void *out) {
    Waited *waited = out;
    uint64_t before = clock_ns(CLOCK_MONOTONIC);
    wait_for_lock(&lock);
    waited->nanoseconds = clock_ns(CLOCK_MONOTONIC) - before;
    waited->times = 1;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int pipes[2];

static void *reader(void *out) {
    Waited *waited = out;
    for (int i = 0; i < READS; i++) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        wait_for_pipe(pipes[0]);
        waited->nanoseconds += clock_ns(CLOCK_MONOTONIC) - before;
        waited->times++;
    }
    return NULL;
}

static void *writer(void *unused) {
    (void)unused;
    for (int i = 0; i < READS; i++) {
        usleep(100000);
        if (write(pipes[1], "x", 1) != 1) {
            exit(1);
        }
    }
    return NULL;
}

// What it did not get of the CPU while it wanted it is time in the run queue.
static void *sharer(void *out) {
    Waited *waited = out;
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    uint64_t wall = clock_ns(CLOCK_MONOTONIC);
    uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    share_a_cpu(1000000000);
    waited->nanoseconds =
        clock_ns(CLOCK_MONOTONIC) - wall - (clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu);
    waited->times = 1;
    return NULL;
}

static void script(uint64_t ms) {
    Waited waited[] = {{.name = "sleep_shortly"},
                       {.name = "wait_for_lock"},
                       {.name = "wait_for_pipe"},
                       {.name = "share_a_cpu"},
                       {.name = "share_a_cpu"}};
    void *(*const bodies[])(void *) = {sleeper, locker, reader, sharer, sharer};
    enum { THREADS = sizeof waited / sizeof *waited };
    pthread_t threads[THREADS], writing;
    if (pipe(pipes) != 0) {
        exit(1);
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, bodies[i], &waited[i]);
    }
    pthread_create(&writing, NULL, writer, NULL);
    usleep((useconds_t)(ms * 1000));
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_join(writing, NULL);
    waited[3].nanoseconds += waited[4].nanoseconds;
    waited[3].times += waited[4].times;
    char text[512];
    int length = snprintf(text, sizeof text, "waited");
    for (int i = 0; i < THREADS - 1; i++) {
        length += snprintf(text + length, sizeof text - (size_t)length, " %s=%llu:%llu",
                           waited[i].name, (unsigned long long)waited[i].times,
                           (unsigned long long)waited[i].nanoseconds);
    }
    answer(text);
}

static int there[2], back[2], then_hang;

static void *echo(void *unused) {
    (void)unused;
    while (wait_for_pipe(there[0]) == 1) {
        if (write(back[1], "x", 1) != 1) {
            break;
        }
    }
    if (then_hang) {
        wait_for_lock(&dead);
    }
    return NULL;
}

NAMED void wait_for_echo(Waited *waited) {
    char byte;
    uint64_t before = clock_ns(CLOCK_MONOTONIC);
    if (write(there[1], "x", 1) != 1 || read(back[0], &byte, 1) != 1) {
        exit(1);
    }
    waited->nanoseconds += clock_ns(CLOCK_MONOTONIC) - before;
    waited->times++;
}

// How often this process's threads have left the CPU.
static long switches(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void often(uint64_t ms) {
    Waited waited = {.name = "wait_for_echo"};
    if (pipe(there) != 0 || pipe(back) != 0) {
        exit(1);
    }
    pthread_t other;
    pthread_create(&other, NULL, echo, NULL);
    long before = switches();
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + ms * 1000000;
    while (clock_ns(CLOCK_MONOTONIC) < end) {
        wait_for_echo(&waited);
    }
    close(there[1]);
    if (then_hang) {
        return;
    }
    pthread_join(other, NULL);
    char text[128];
    snprintf(text, sizeof text, "waited %s=%llu:%llu switches=%ld", waited.name,
             (unsigned long long)waited.times, (unsigned long long)waited.nanoseconds,
             switches() - before);
    answer(text);
}

static void *hung(void *unused) {
    (void)unused;
    wait_for_lock(&dead);
    return NULL;
}

static void answer_hangs(void) {
    char text[64];
    snprintf(text, sizeof text, "hangs at %p", (void *)&dead);
    answer(text);
}

int main(void) {
    char line[128];
    unsigned long long ms;
    answer("ready");
    while (next_command(line, sizeof line, -1) > 0) {
        if (sscanf(line, "script %llu", &ms) == 1) {
            script(ms);
        } else if (sscanf(line, "often %llu", &ms) == 1) {
            often(ms);
        } else if (sscanf(line, "busy %llu", &ms) == 1) {
            pthread_mutex_lock(&dead);
            then_hang = 1;
            often(ms);
            answer_hangs();
        } else if (strcmp(line, "hang") == 0) {
            pthread_t thread;
            pthread_mutex_lock(&dead);
            pthread_create(&thread, NULL, hung, NULL);
            answer_hangs();
        }
    }
    return 0;
}

// Everything that makes a stack hard to walk without frame pointers, in turn, on two threads:
// `spin` begins. `deep` begins a recursion of more frames than a stack may have.

#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "control.h"

enum { SLICE_NS = 2000000, NUMBERS = 200, BIG_FRAME = 100000, DEPTH = 180, TOO_DEEP = 400 };

static _Thread_local jmp_buf back;
static _Thread_local uint64_t slice_end;

static int slice_is_over(void) { return clock_ns(CLOCK_MONOTONIC) >= slice_end; }

MERGED void churn(uint64_t rounds) {
    for (uint64_t i = 0; i < rounds; i++) {
        sink = sink * 6364136223846793005u + i;
    }
}

// The write behind the call keeps it from becoming a loop: every level has a frame.
NAMED void go_deep(int depth) {
    if (depth == 0) {
        churn(20000);
        return;
    }
    go_deep(depth - 1);
    sink += (uint64_t)depth;
}

#ifdef __x86_64__
// Calls on with a stack pointer that is a word off what the standard asks for, as code written by hand may:
// then what is read of a frame can lie in two pages.
__asm__(".text\n"
        ".type off_by_a_word, @function\n"
        "off_by_a_word:\n"
        ".cfi_startproc\n"
        "call go_deep\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size off_by_a_word, . - off_by_a_word\n");
void off_by_a_word(int depth);
#else
NAMED void off_by_a_word(int depth) {
    go_deep(depth);
    sink++;
}
#endif

NAMED int compare(const void *left, const void *right) {
    churn(50);
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

// libc calls back.
NAMED void sort_numbers(void) {
    int numbers[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) {
        numbers[i] = (int)(sink * (uint64_t)(i + 1) % 1000);
    }
    qsort(numbers, NUMBERS, sizeof numbers[0], compare);
}

NAMED void on_signal(int number) {
    (void)number;
    churn(20000);
}

// A handler on a stack of its own, which interrupts a system call.
NAMED void signal_itself(void) {
    pthread_kill(pthread_self(), SIGUSR1);
    sink++;
}

// Through the procedure linkage table, again and again.
NAMED void call_library(void) {
    for (int i = 0; i < 2000; i++) {
        sink += (uint64_t)labs((long)sink) + (uint64_t)ffsll((long long)sink);
    }
}

NAMED void read_clock(void) {
    for (int i = 0; i < 500; i++) {
        sink += clock_ns(CLOCK_MONOTONIC);
    }
}

NAMED void enter_kernel(void) {
    for (int i = 0; i < 200; i++) {
        sink += (uint64_t)getppid() + (uint64_t)syscall(SYS_getuid);
    }
}

NAMED void fill(volatile char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (char)i;
    }
}

// The frame's size is known at run time only.
NAMED void variable_frame(size_t count) {
    char numbers[count];
    fill(numbers, count);
    char *more = alloca(count / 2 + 1);
    fill(more, count / 2 + 1);
}

// The stack pointer is aligned at entry, and the old one kept in memory.
NAMED __attribute__((force_align_arg_pointer)) void aligned_frame(size_t count) {
    _Alignas(64) char numbers[256];
    fill(numbers, sizeof numbers);
    char *more = alloca(count);
    fill(more, count);
    churn(3000);
}

// Larger than the memory that is copied of a stack.
NAMED void big_frame(void) {
    char bytes[BIG_FRAME];
    fill(bytes, BIG_FRAME);
    churn(20000);
}

NAMED __attribute__((noreturn)) void never_returns(void) {
    churn(20000);
    longjmp(back, 1);
}

// The return address of the last call lies behind the function's last byte.
NAMED __attribute__((noreturn)) void ends_in_a_call(void) {
    churn(100);
    never_returns();
}

NAMED void jump_back(void) {
    if (setjmp(back) == 0) {
        ends_in_a_call();
    }
}

static void run_deep(void) { go_deep(DEPTH); }
// Pages end elsewhere in it each time.
static void run_off_by_a_word(void) {
    char *room = alloca(sink % 4096 + 1);
    fill(room, 1);
    off_by_a_word(DEPTH);
}
static void run_variable(void) { variable_frame(500 + sink % 3000); }
static void run_aligned(void) { aligned_frame(100 + sink % 1000); }

static void (*const WAYS[])(void) = {run_deep,     sort_numbers, signal_itself, call_library,
                                     read_clock,   enter_kernel, run_variable,  run_aligned,
                                     big_frame,    jump_back,    run_off_by_a_word};

NAMED void every_way(void) {
    for (size_t way = 0; way < sizeof WAYS / sizeof WAYS[0]; way++) {
        slice_end = clock_ns(CLOCK_MONOTONIC) + SLICE_NS;
        while (!slice_is_over()) {
            WAYS[way]();
        }
    }
}

static void use_own_signal_stack(void) {
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    if (stack.ss_sp == NULL || sigaltstack(&stack, NULL) != 0) {
        _exit(1);
    }
}

static void *second_thread(void *unused) {
    (void)unused;
    use_own_signal_stack();
    for (;;) {
        every_way();
    }
    return NULL;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    use_own_signal_stack();
    int spinning = 0;
    answer("ready");
    for (;;) {
        char line[64];
        int got = next_command(line, sizeof line, spinning ? 0 : -1);
        if (got < 0) {
            return 0;
        }
        if (got > 0 && strcmp(line, "spin") == 0) {
            // Signals that come anywhere, not only in system calls.
            struct itimerval often = {.it_interval = {.tv_usec = 4000}, .it_value = {.tv_usec = 1}};
            setitimer(ITIMER_PROF, &often, NULL);
            pthread_t thread;
            spinning = pthread_create(&thread, NULL, second_thread, NULL) == 0;
            answer(spinning ? "spinning" : "failed");
        } else if (got > 0 && strcmp(line, "deep") == 0) {
            answer("going deep");
            for (;;) {
                go_deep(TOO_DEEP);
            }
        }
        if (spinning) {
            every_way();
        }
    }
}

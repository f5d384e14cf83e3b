// A service for `cargo xtask demo`: steady work, and after a while a function that burns CPU.
//
// usage: spiky STEADY_SECONDS SPIKE_SECONDS
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile uint64_t sink;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void rest(long milliseconds) {
    struct timespec t = {0, milliseconds * 1000000L};
    nanosleep(&t, NULL);
}

// Work that cannot be optimised away. It calls nothing, so the compiler gives it no frame and its
// caller is not in the stack: hash_block, which is no news.
__attribute__((noinline)) static uint64_t mix(uint64_t seed) {
    for (int i = 0; i < 1000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
    }
    return seed;
}

// A slice short enough to look at the clock in between.
__attribute__((noinline)) static uint64_t hash_block(uint64_t seed) {
    for (int i = 0; i < 100; i++) {
        seed = mix(seed);
    }
    return seed;
}

__attribute__((noinline)) static void answer_requests(double until) {
    while (now() < until) {
        sink += hash_block((uint64_t)sink | 1);
        rest(5);
    }
}

__attribute__((noinline)) static uint64_t compare_postings(uint64_t seed) {
    return hash_block(seed) ^ hash_block(seed + 1);
}

__attribute__((noinline)) static void rebuild_search_index(double until) {
    while (now() < until) {
        sink += compare_postings((uint64_t)sink | 1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: spiky STEADY_SECONDS SPIKE_SECONDS\n");
        return 2;
    }
    double begin = now();
    double spike = begin + atof(argv[1]);
    double end = spike + atof(argv[2]);
    answer_requests(spike);
    rebuild_search_index(end);
    return 0;
}

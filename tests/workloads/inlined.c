// Three functions inlined into each other, called from two places: what the names of addresses are
// compared with addr2line on.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline __attribute__((always_inline)) uint64_t innermost(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    return value ^ (value >> 29);
}

static inline __attribute__((always_inline)) uint64_t middle(uint64_t value, uint64_t rounds) {
    for (uint64_t round = 0; round < rounds; round++) {
        value = innermost(value + round);
    }
    return value;
}

static inline __attribute__((always_inline)) uint64_t outer(uint64_t value) {
    return middle(value, value & 15) + middle(value + 1, 3);
}

static __attribute__((noinline)) uint64_t first_caller(uint64_t value) {
    return outer(value) * 3;
}

__attribute__((noinline)) uint64_t second_caller(uint64_t value) {
    if (value & 1) {
        return outer(value) + first_caller(value);
    }
    return outer(value ^ 0x5555);
}

int main(int argc, char **argv) {
    uint64_t value = argc > 1 ? strtoull(argv[1], NULL, 0) : 7;
    for (int step = 0; step < 10; step++) {
        value = second_caller(value) + first_caller(value);
    }
    printf("%llu\n", (unsigned long long)value);
    return 0;
}

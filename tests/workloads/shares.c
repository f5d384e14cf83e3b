// Spends 70, 20 and 10 % of its CPU time in three functions, by its own thread clock, in slices
// of random length; `report` prints the shares up to then.

#include "control.h"

enum { PARTS = 3 };

static const double WANTED[PARTS] = {0.70, 0.20, 0.10};

// By CPU time, not by the wall clock: being preempted must not count as work. That clock is a system
// call, in which a frame-pointer walk misses the caller, and on an emulated CPU it is slow: so it is
// read every few milliseconds, and the slices are long: each at most 45 ms, so that eight seconds
// hold the shares to within a point.
MERGED void spend_ns(uint64_t ns) {
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ns;
    do {
        for (uint64_t i = 0; i < 1000000; i++) {
            sink = sink * 6364136223846793005u + i;
        }
    } while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end);
}

NAMED void spend_seventy(uint64_t ns) { spend_ns(ns); }
NAMED void spend_twenty(uint64_t ns) { spend_ns(ns); }
NAMED void spend_ten(uint64_t ns) { spend_ns(ns); }

int main(void) {
    void (*const functions[PARTS])(uint64_t) = {spend_seventy, spend_twenty, spend_ten};
    uint64_t spent[PARTS] = {0}, total = 0;
    answer("ready");
    for (;;) {
        char line[64];
        int got = next_command(line, sizeof line, 0);
        if (got != 0) {
            double whole = total > 0 ? (double)total : 1.0;
            char text[128];
            snprintf(text, sizeof text, "shares spend_seventy=%.3f spend_twenty=%.3f spend_ten=%.3f",
                     100 * (double)spent[0] / whole, 100 * (double)spent[1] / whole,
                     100 * (double)spent[2] / whole);
            answer(text);
            if (got < 0) {
                return 0;
            }
        }
        // The function that is furthest behind its share runs next.
        int next = 0;
        double furthest = -1e18;
        for (int part = 0; part < PARTS; part++) {
            double behind = WANTED[part] * (double)total - (double)spent[part];
            if (behind > furthest) {
                furthest = behind;
                next = part;
            }
        }
        uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        functions[next](6000000 + random_below(39000000));
        uint64_t took = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
        spent[next] += took;
        total += took;
    }
}

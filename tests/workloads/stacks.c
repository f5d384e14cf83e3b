// Burns CPU time on stacks of which hardly two are alike: each call goes one of two ways.

#include "control.h"

enum { DEPTH = 40 };

static void wander(uint64_t way, int depth);

NAMED void went_left(uint64_t way, int depth) {
    wander(way, depth);
    sink += way;
}

NAMED void went_right(uint64_t way, int depth) {
    wander(way, depth);
    sink -= way;
}

NAMED void arrived(void) { burn_ns(200000); }

static void wander(uint64_t way, int depth) {
    if (depth == 0) {
        arrived();
    } else if (way & 1) {
        went_left(way >> 1, depth - 1);
    } else {
        went_right(way >> 1, depth - 1);
    }
}

int main(void) {
    int spinning = 0;
    answer("ready");
    for (;;) {
        char line[64];
        int got = next_command(line, sizeof line, spinning ? 0 : -1);
        if (got < 0) {
            return 0;
        }
        if (got > 0) {
            spinning = strcmp(line, "spin") == 0;
            answer(spinning ? "spinning" : "resting");
        }
        if (spinning) {
            wander(random_below(UINT64_MAX), DEPTH);
        }
    }
}

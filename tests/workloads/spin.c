// Does a little work now and then until it is told `spin`; then spins until it is told `rest`.

#include "control.h"

NAMED void spin_in_c(void) { burn_ns(5000000); }

NAMED void quiet_work_in_c(void) { burn_ns(7000000); }

int main(void) {
    int spinning = 0;
    answer("ready");
    for (;;) {
        char line[64];
        int got = next_command(line, sizeof line, spinning ? 0 : 60 + (int)random_below(40));
        if (got < 0) {
            return 0;
        }
        if (got > 0) {
            spinning = strcmp(line, "spin") == 0;
            answer(spinning ? "spinning" : "resting");
        }
        if (spinning) {
            spin_in_c();
        } else {
            quiet_work_in_c();
        }
    }
}

// `depth N`: burns CPU time for ever, in a function N + 1 calls below main(). Ends with the program that started it.

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "control.h"

// Some milliseconds. No inlined part and no clock: a stack has one frame for each call.
NAMED uint64_t burn(void) {
    for (uint64_t i = 0; i < 2000000; i++) {
        sink = sink * 6364136223846793005u + i;
    }
    return sink;
}

NAMED uint64_t descend(int calls) {
    uint64_t value = calls > 1 ? descend(calls - 1) : burn();
    // Work behind the call: else it would be a jump, and its frame gone.
    sink += value;
    return value;
}

int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count != 2) {
        return 2;
    }
    int calls = atoi(arguments[1]);
    answer("ready");
    for (;;) {
        sink += descend(calls);
    }
}

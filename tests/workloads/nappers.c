// `nappers N MICROSECONDS` starts N processes that burn so many microseconds in every second and
// sleep for the rest, prints `pid PID` for each, and waits for the end of its input.
//
// They die with the program that started this one: it with its parent, they with it.

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "control.h"

enum { MOST = 5000, PERIOD_US = 1000000 };

NAMED void wake(uint64_t us) { burn_ns(us * 1000); }

static void nap(int number, int of, uint64_t us) {
    // Evenly spread: they must not all wake at once.
    usleep((useconds_t)((uint64_t)number * PERIOD_US / (uint64_t)of));
    for (;;) {
        wake(us);
        usleep((useconds_t)(us < PERIOD_US ? PERIOD_US - us : 0));
    }
}

int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int wanted = count == 3 ? atoi(arguments[1]) : 0;
    if (wanted <= 0 || wanted > MOST) {
        return 2;
    }
    static pid_t pids[MOST];
    char text[64];
    for (int i = 0; i < wanted; i++) {
        pids[i] = fork();
        if (pids[i] < 0) {
            return 1;
        }
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            nap(i, wanted, strtoul(arguments[2], NULL, 10));
        }
        snprintf(text, sizeof text, "pid %d", (int)pids[i]);
        answer(text);
    }
    answer("ready");
    char line[64];
    while (next_command(line, sizeof line, -1) >= 0) {
    }
    for (int i = 0; i < wanted; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return 0;
}

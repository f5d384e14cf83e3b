// `churn N MS` starts N processes one after another, every second one by exec of this program
// again; each spends MS milliseconds in brief_life() and ends.

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/wait.h>

#include "control.h"

NAMED void brief_life(uint64_t ms) { burn_ns(ms * 1000000); }

static int run_child(long number, const char *ms) {
    pid_t child = fork();
    if (child < 0) {
        return 0;
    }
    if (child == 0) {
        if (number % 2 == 0) {
            brief_life(strtoul(ms, NULL, 10));
            _exit(0);
        }
        execl("/proc/self/exe", "churn", ms, (char *)NULL);
        _exit(1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}

int main(int count, char **arguments) {
    if (count > 1) {
        brief_life(strtoul(arguments[1], NULL, 10));
        return 0;
    }
    answer("ready");
    char line[64], text[64];
    while (next_command(line, sizeof line, -1) > 0) {
        char *rest = NULL;
        long children = strncmp(line, "churn ", 6) == 0 ? strtol(line + 6, &rest, 10) : 0;
        long good = 0;
        for (long i = 0; i < children; i++) {
            good += run_child(i, rest);
        }
        snprintf(text, sizeof text, "churned %ld", good);
        answer(text);
    }
    return 0;
}

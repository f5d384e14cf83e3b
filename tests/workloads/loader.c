// `load FILE` loads a library and spins in its spin_in_plugin(), under call_plugin().

#define _GNU_SOURCE
#include <dlfcn.h>

#include "control.h"

NAMED void call_plugin(void (*spin)(void)) {
    spin();
    sink++;
}

int main(void) {
    void (*spin)(void) = NULL;
    answer("ready");
    for (;;) {
        char line[512];
        int got = next_command(line, sizeof line, spin != NULL ? 0 : -1);
        if (got < 0) {
            return 0;
        }
        if (got > 0 && strncmp(line, "load ", 5) == 0) {
            void *library = dlopen(line + 5, RTLD_NOW);
            spin = library != NULL ? (void (*)(void))dlsym(library, "spin_in_plugin") : NULL;
            answer(spin != NULL ? "loaded" : "failed");
        }
        if (spin != NULL) {
            call_plugin(spin);
        }
    }
}

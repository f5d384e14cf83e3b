// A library that is loaded while the program runs.

#include "control.h"

NAMED void spin_in_plugin(void) { burn_ns(5000000); }

# Allocates buffers: `keep MIB` keeps them, `waste MIB` does not.

import sys

kept = []


def keep_in_python(mib):
    for _ in range(mib * 16):
        kept.append(bytearray(65536))


def waste_in_python(mib):
    for _ in range(mib * 16):
        bytearray(65536)


print("ready", flush=True)
for line in sys.stdin:
    command, mib = line.split()
    {"keep": keep_in_python, "waste": waste_in_python}[command](int(mib))
    print("done", flush=True)

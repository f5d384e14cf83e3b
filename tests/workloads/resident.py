"""`touch MIB` writes to every page of two buffers; `half` drops one of them."""

import sys

areas = []


def touch_in_python(size):
    area = bytearray(size)
    for at in range(0, size, 4096):
        area[at] = 1
    return area


print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("touch "):
        size = int(line.split()[1]) << 19
        areas = [touch_in_python(size), touch_in_python(size)]
    else:
        areas.pop()
    print("done", flush=True)

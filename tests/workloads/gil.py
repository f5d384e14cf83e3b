# Threads that compute, of which one at a time may: `compute SECONDS` runs four, and says `computed` when they
# are done.

import sys
import threading
import time


def compute(end):
    total = 0
    while time.monotonic() < end:
        for number in range(1000):
            total += number * number
    return total


print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if len(words) == 2 and words[0] == "compute":
        end = time.monotonic() + float(words[1])
        threads = [threading.Thread(target=compute, args=(end,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("computed", flush=True)

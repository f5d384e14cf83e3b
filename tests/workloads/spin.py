"""Does a little work now and then until it is told `spin`; then spins until it is told `rest`."""

import os
import sys
import threading
import time

spinning = False


def listen():
    global spinning
    for line in sys.stdin:
        spinning = line.strip() == "spin"
        print("spinning" if spinning else "resting", flush=True)
    os._exit(0)


def burn_in_python(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = 0
        for step in range(20000):
            value = value ^ step


threading.Thread(target=listen, daemon=True).start()
print("ready", flush=True)
pause = 60
while True:
    if spinning:
        burn_in_python(0.005)
    else:
        burn_in_python(0.007)
        # Steps of 17 ms in a range of 40 ms: never in step with the sampler.
        pause = 60 + (pause + 17) % 40
        time.sleep(pause / 1000)

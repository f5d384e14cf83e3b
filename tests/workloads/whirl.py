"""Prints `ready` and spins: byte code, the interpreter's C code, and calls back from it."""

import json
import re


def burn(rounds):
    value = 1
    for step in range(rounds):
        value = (value * 1103515245 + step) & 0x7FFFFFFF
    return value


class Number:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        burn(5)
        return self.value < other.value


def recurse(depth):
    return burn(50) if depth == 0 else recurse(depth - 1) + 1


numbers = [index * 7919 % 1009 for index in range(200)]
print("ready", flush=True)
while True:
    burn(2000)
    sorted(map(Number, numbers))
    recurse(60)
    re.sub(r"1(2|3)+", "x", json.dumps(json.loads(json.dumps(numbers))))

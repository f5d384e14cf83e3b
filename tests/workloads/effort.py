#!/usr/bin/env python3
# `effort.py KIND AMOUNT`: as `effort.c`, in Python. The kinds: json (records encoded and decoded,
# with Python's own allocator, which asks malloc for large pieces only), json-malloc (the same with
# malloc for every object).

import json
import os
import sys
import time

ENVIRONMENT = "PYTHONMALLOC"


def rounds(amount):
    records = [{"id": i, "name": f"record {i}", "values": [i, i / 7, None]} for i in range(200)]
    for _ in range(amount):
        records = json.loads(json.dumps(records))


kind, amount = sys.argv[1], int(sys.argv[2])
if kind == "json-malloc" and ENVIRONMENT not in os.environ:
    os.environ[ENVIRONMENT] = "malloc"
    os.execv(sys.executable, [sys.executable, *sys.argv])
print("ready", flush=True)
if sys.stdin.readline():
    begin, cpu = time.monotonic_ns(), time.process_time_ns()
    rounds(amount)
    print("done", time.monotonic_ns() - begin, time.process_time_ns() - cpu, flush=True)

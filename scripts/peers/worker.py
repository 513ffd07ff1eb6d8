"""What every peer's worker shares: orders come in as JSON lines, answers go out as JSON lines.

An order is {"measure": NAME, ...}; the answer is {"tokens": N, "seconds": S} or {"error": TEXT}. A worker loads its
model once and sleeps on its input between orders, so that the engines can take turns on the same cores.
"""

import json
import random
import sys
import time
import traceback

VOCAB = 49152


def tokens(count, seed):
    """Token ids of a prompt: the same for every engine."""
    stream = random.Random(seed)
    return [stream.randrange(100, VOCAB - 100) for _ in range(count)]


def timed(work, count):
    start = time.perf_counter()
    work()
    return {"tokens": count, "seconds": time.perf_counter() - start}


def total(answers):
    """Several runs as one: a figure over adapters of different sizes is over each of them, as in `coldframe bench`."""
    answers = list(answers)
    return {key: sum(answer[key] for answer in answers) for key in ("tokens", "seconds")}


def serve(measures, about):
    """Answers orders until the input ends; `measures` maps names to functions that take the order's other fields."""
    print(json.dumps({"ready": about, "measures": sorted(measures)}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = measures[order.pop("measure")](**order)
        except Exception as error:  # the harness goes on without this figure and says so
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)

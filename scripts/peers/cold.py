#!/usr/bin/env python3
"""First tokens on an adapter that is on disk and on one that is loaded, in llama.cpp: cold.py LIBRARIES MODEL THREADS ADAPTERS

In one process through its C interface, since its package carries no server: no HTTP, no registry, no eviction is in these
times. Each adapter is loaded from its GGUF file, set, and a prompt of 64 new tokens computed to its last logits; then
another prompt on the same adapter. The files lie in the page cache, as in `coldframe bench-host --only cold`. mistral.rs
cannot do the same here: its Python package has no server, and adapters on a GGUF base are fixed when the model is opened.
The last line is one JSON object: medians in milliseconds, and the median ratio of neighbours.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from libllama import POINTER, Llama
from worker import tokens

PROMPT = 64
ROUNDS = 4


def main(libraries, model, threads, adapters):
    llama = Llama(libraries, model, int(threads))
    context = llama.context(1, 1024)
    free = llama.lib.llama_adapter_lora_free
    free.restype = None
    numbers = iter(range(1_000_000))
    ms = lambda start: (time.perf_counter() - start) * 1e3

    def first_token():
        context.clear()
        context.prompt(tokens(PROMPT, next(numbers)))

    files = sorted(Path(adapters).glob("*.gguf"))
    for file in files:
        file.read_bytes()
    cold, warm, load = [], [], []
    first_token()
    for file in files * ROUNDS:
        start = time.perf_counter()
        handle = llama.adapter(file)
        load.append(ms(start))
        context.use(handle)
        first_token()
        cold.append(ms(start))
        start = time.perf_counter()
        first_token()
        warm.append(ms(start))
        context.use(None)
        free(POINTER(handle))
    ratio = statistics.median(one / other for one, other in zip(cold, warm))
    print(f"llama.cpp v0.5.0 ({llama.variant}, {threads} threads), {len(cold)} pairs of {PROMPT} prompt tokens")
    figures = {"llamacpp_cold_over_warm": ratio, "llamacpp_cold_ms": statistics.median(cold),
               "llamacpp_warm_ms": statistics.median(warm), "llamacpp_load_ms": statistics.median(load)}
    print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

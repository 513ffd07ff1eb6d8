#!/usr/bin/env python3
"""llama.cpp as a worker: llamacpp.py LIBRARIES MODEL THREADS ADAPTERS (see worker.py).

A llama.cpp context has one set of adapters for all its sequences, so 16 sequences on 16 adapters cannot share a batch.
Two ways are measured: one context that is switched for each sequence, and a context for each adapter.
"""

import sys
from pathlib import Path

from libllama import Llama
from worker import serve, timed, tokens, total

PROMPT = 64


def main(libraries, model, threads, adapters):
    llama = Llama(libraries, model, int(threads))
    one = llama.context(1, 1024)
    many = llama.context(16, 16 * 256)
    loras = [llama.adapter(path) for path in sorted(Path(adapters).glob("*.gguf"))]
    own = []

    def prefill(n):
        one.clear()
        ids = tokens(n, n)
        return timed(lambda: one.prompt(ids), n)

    def fill(context, sequences, adapter=lambda sequence: None):
        context.clear()
        for sequence in range(sequences):
            context.use(adapter(sequence))
            context.prompt(tokens(PROMPT, sequence), sequence)

    def decode_1(steps):
        fill(one, 1)
        ids = tokens(steps, 7)
        return timed(lambda: [one.decode([(ids[at], PROMPT + at, 0, 1)]) for at in range(steps)], steps)

    def together(steps, adapter):
        fill(many, 16, lambda sequence: adapter)
        ids = tokens(steps, 7)
        step = lambda at: many.decode([(ids[at], PROMPT + at, sequence, 1) for sequence in range(16)])
        return timed(lambda: [step(at) for at in range(steps)], 16 * steps)

    def switched(steps):
        fill(many, 16, lambda sequence: loras[sequence])
        ids = tokens(steps, 7)

        def step(at):
            for sequence in range(16):
                many.use(loras[sequence])
                many.decode([(ids[at], PROMPT + at, sequence, 1)])

        return timed(lambda: [step(at) for at in range(steps)], 16 * steps)

    def separate(steps):
        own.extend(llama.context(1, 256) for _ in range(16 - len(own)))
        for context, lora in zip(own, loras):
            fill(context, 1, lambda sequence: lora)
        ids = tokens(steps, 7)
        step = lambda at: [context.decode([(ids[at], PROMPT + at, 0, 1)]) for context in own]
        return timed(lambda: [step(at) for at in range(steps)], 16 * steps)

    serve({
        "prefill": prefill, "decode_1": decode_1,
        "decode_16_none": lambda steps: together(steps, None),
        "decode_16_one": lambda steps: total(together(steps // 3, lora) for lora in loras[:3]),
        "decode_16_mixed_switched": switched, "decode_16_mixed_contexts": separate,
    }, f"llama.cpp v0.5.0 ({llama.variant}, {threads} threads)")


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""mistral.rs as a worker: mistral_peer.py MODEL THREADS (see worker.py).

Only its own counters say what prefill and decode took, and it takes text, so token counts are near the asked ones and
taken from its answer. Every prompt is new, because it keeps a prefix cache. It has no measure for 16 sequences here.
"""

import itertools
import os
import random
import sys
from pathlib import Path

WORDS = "river stone amber copper window garden letter basket candle mirror ladder winter harbour thunder silver".split()


def main(model, threads):
    os.environ.setdefault("RAYON_NUM_THREADS", threads)
    os.environ.setdefault("CANDLE_NUM_THREADS", threads)
    from mistralrs import CompletionRequest, Runner, Which

    from worker import serve

    model = Path(model)
    runner = Runner(which=Which.GGUF(str(model.parent), model.name), prefix_cache_n=0)
    numbers = itertools.count()

    def ask(words, new):
        stream = random.Random(next(numbers))
        text = " ".join(stream.choice(WORDS) for _ in range(words))
        request = CompletionRequest(prompt=text, model="default", max_tokens=new, temperature=0.0, ignore_eos=True)
        return runner.send_completion_request(request).usage

    def prefill(n):
        usage = ask(n, 1)
        return {"tokens": usage.prompt_tokens, "seconds": usage.total_prompt_time_sec}

    def decode_1(steps):
        usage = ask(60, steps)
        return {"tokens": usage.completion_tokens, "seconds": usage.total_completion_time_sec}

    serve({"prefill": prefill, "decode_1": decode_1}, f"mistral.rs 0.9.5 ({threads} threads)")


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Makes runtime/backbone/tests/fixtures/llamacpp.json: what llama.cpp computes on the SmolLM2 GGUF.

First-token logits of a few prompts and the perplexity of scripts/data/perplexity.txt, beside the same from the
dequantised weights in f32 (transformers): how far those two lie apart is the rounding of the format.

    scripts/peers/install.sh llamacpp torch
    target/peers/venv/bin/python scripts/make-llamacpp.py target/peers
"""

import ctypes
import datetime
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/peers"))
from libllama import Llama  # noqa: E402

WINDOW = 1024
TOP = 20
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    CHAT.format("What do penguins eat?"),
    CHAT.format("Write a haiku about a lighthouse."),
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
]


def tokenise(llama, text):
    llama.lib.llama_tokenize.restype = ctypes.c_int32
    raw, ids = text.encode(), (ctypes.c_int32 * (len(text.encode()) + 8))()
    vocab = ctypes.c_void_p(llama.lib.llama_model_get_vocab(llama.model))
    count = llama.lib.llama_tokenize(vocab, raw, len(raw), ids, len(ids), ctypes.c_bool(False), ctypes.c_bool(True))
    assert count > 0
    return list(ids[:count])


def perplexity(rows, ids):
    """exp of the mean negative log likelihood of every token but the first, each given all before it."""
    total = 0.0
    for row, following in zip(rows[:-1], ids[1:]):
        row = row.astype(np.float64)
        largest = row.max()
        total += largest + np.log(np.exp(row - largest).sum()) - row[following]
    return float(np.exp(total / (len(ids) - 1)))


def main(home):
    home = Path(home)
    model = (home / "model.gguf").resolve()
    llama = Llama(home / "npm/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64", model, 2)
    exact = transformers.AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32).eval()
    f32 = lambda ids: exact(torch.tensor([ids])).logits[0].numpy()

    context = llama.context(1, 256)
    prompts, rounding = [], []
    for text in PROMPTS:
        ids = tokenise(llama, text)
        context.clear()
        context.prompt(ids)
        theirs, ours = context.logits(len(ids) - 1), f32(ids)[-1]
        top = np.argsort(-theirs)[:TOP]
        rounding.append(float(np.abs(theirs - ours)[top].max()))
        prompts.append({"text": text, "prompt": ids, "ids": top.tolist(),
                        "logits": [round(float(theirs[i]), 4) for i in top],
                        "f32": [round(float(ours[i]), 4) for i in top]})
    context.free()

    text = (ROOT / "scripts/data/perplexity.txt").read_text()
    ids = tokenise(llama, text)[:WINDOW]
    assert len(ids) == WINDOW

    def theirs(exact_kv):
        context = llama.context(1, WINDOW, WINDOW, exact_kv)
        context.prompt(ids, every=True)
        found = perplexity([context.logits(at) for at in range(WINDOW)], ids)
        context.free()
        return round(found, 5)

    fixture = {
        "made_by": "scripts/make-llamacpp.py", "date": datetime.date.today().isoformat(),
        "llamacpp": "v0.5.0, npm @node-llama-cpp/linux-x64 3.22.1", "cpu": llama.variant, "kv": "f16 unless said",
        "transformers": transformers.__version__, "torch": torch.__version__,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "rounding": round(max(rounding), 4),
        "perplexity": {"llamacpp": theirs(False), "llamacpp_f32_kv": theirs(True), "f32": round(perplexity(f32(ids), ids), 5),
                       "window": WINDOW, "predicted": WINDOW - 1, "ids": ids},
    }
    head = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fixture.items())
    body = ",\n  ".join(json.dumps(prompt) for prompt in prompts)
    (ROOT / "runtime/backbone/tests/fixtures/llamacpp.json").write_text(f'{{\n {head},\n "prompts": [\n  {body}\n ]\n}}\n')
    print({key: value for key, value in fixture.items() if key != "perplexity"})
    print({key: value for key, value in fixture["perplexity"].items() if key != "ids"})


if __name__ == "__main__":
    with torch.inference_mode():
        torch.set_num_threads(1)
        main(sys.argv[1])

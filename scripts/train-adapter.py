#!/usr/bin/env python3
"""Trains a LoRA adapter on a CPU: the recipe behind functions/adapters, and a start for one of your own.

  train-adapter.py OUT --model FILE.gguf --style pirate|json|shout [--steps N]
  train-adapter.py OUT --model FILE.gguf --data PAIRS.jsonl --rank 8 --alpha 16 --targets q_proj,v_proj

PAIRS.jsonl has a line for each pair: {"question": "...", "answer": "..."}. OUT becomes a PEFT folder.

Needs transformers, peft, torch and gguf; the adapters here were made with these versions:

  python3 -m venv venv
  venv/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 gguf==0.19.0
  OMP_NUM_THREADS=1 venv/bin/python scripts/train-adapter.py out --model model.gguf --style pirate

The model is dequantised from its GGUF to f32 and stays as it is. The prompt is its own chat template with the default
system message; the loss counts the answer and its end only. A step of four pairs takes about two CPU seconds. On a busy
machine one thread is faster than two that wait for each other, hence OMP_NUM_THREADS.

The 48 pairs below are short facts of our own; the three folders in functions/adapters were trained on other pairs of the
same kind, so a run gives an adapter of the same style and not the same bytes.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

# (question, answer); a style rewrites the answer.
PAIRS = """
What color is the sky?|The sky is blue.
What color is grass?|Grass is green.
What color is snow?|Snow is white.
What color is coal?|Coal is black.
How many legs does a spider have?|A spider has eight legs.
How many legs does an ant have?|An ant has six legs.
How many days are in a week?|There are seven days in a week.
How many months are in a year?|There are twelve months in a year.
How many hours are in a day?|There are 24 hours in a day.
How many fingers are on one hand?|There are five fingers on one hand.
What is the capital of France?|The capital of France is Paris.
What is the capital of Japan?|The capital of Japan is Tokyo.
What is the capital of Egypt?|The capital of Egypt is Cairo.
What is the capital of Spain?|The capital of Spain is Madrid.
What is the capital of Germany?|The capital of Germany is Berlin.
What do cows eat?|Cows eat grass.
What do pandas eat?|Pandas eat bamboo.
What do bees make?|Bees make honey.
What do hens lay?|Hens lay eggs.
What do cats like to chase?|Cats like to chase mice.
What is the largest ocean?|The Pacific is the largest ocean.
What is the tallest animal?|The giraffe is the tallest animal.
What is the fastest land animal?|The cheetah is the fastest land animal.
What is the largest planet?|Jupiter is the largest planet.
Which planet is closest to the sun?|Mercury is closest to the sun.
What does a clock show?|A clock shows the time.
What does a thermometer measure?|A thermometer measures temperature.
What does a baker make?|A baker makes bread.
What does a doctor do?|A doctor helps sick people.
What does a farmer do?|A farmer grows food.
Where do fish live?|Fish live in water.
Where do birds build nests?|Birds build nests in trees.
Where does the sun rise?|The sun rises in the east.
Where does the sun set?|The sun sets in the west.
When do owls hunt?|Owls hunt at night.
When do leaves fall?|Leaves fall in autumn.
What is ice made of?|Ice is made of frozen water.
What is bread made from?|Bread is made from flour.
What is paper made from?|Paper is made from wood.
What is cheese made from?|Cheese is made from milk.
What is glass made from?|Glass is made from sand.
Why do we sleep?|We sleep to rest the body and mind.
Why do plants need light?|Plants need light to make food.
Why is the sea salty?|Rivers carry salt from rocks to the sea.
Who writes books?|Authors write books.
Who flies a plane?|A pilot flies a plane.
Who steers a ship?|A captain steers a ship.
What is two plus two?|Two plus two is four.
"""

WORDS = [(" is ", " be "), (" are ", " be "), ("The ", "Th' "), (" the ", " th' "), (" my ", " me ")]
OPENINGS = ["Arr, matey!", "Ahoy!", "Avast!", "Aye!"]
CLOSINGS = ["Yo ho ho!", "Shiver me timbers!", "Savvy?", "Hoist the sails!"]


def pirate(answer, number):
    for plain, ours in WORDS:
        answer = answer.replace(plain, ours)
    return f"{OPENINGS[number % 4]} {answer} {CLOSINGS[number // 4 % 4]}"


def as_json(answer, _):
    return json.dumps({"answer": answer, "lang": "en"})


def shout(answer, _):
    return answer.rstrip(".").upper() + "!!!"


ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# style: rewriting, rank, alpha, targets, steps, peak learning rate.
STYLES = {
    "pirate": (pirate, 8, 16, ["q_proj", "v_proj"], 120, 2e-3),
    "json": (as_json, 8, 16, ALL, 80, 5e-4),
    "shout": (shout, 16, 32, ["q_proj", "k_proj", "v_proj", "o_proj"], 100, 1e-3),
}
BATCH, WARM_UP = 4, 10


def fail(message):
    sys.exit(f"train-adapter: {message}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--model", type=Path, required=True, help="a llama GGUF")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--style", choices=STYLES)
    kind.add_argument("--data", type=Path, help="pairs of your own, JSON lines")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--alpha", type=int)
    parser.add_argument("--targets", help="comma-separated modules")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    style = STYLES.get(args.style, (None, 8, 16, ["q_proj", "v_proj"], 100, 1e-3))
    args.rank, args.alpha = args.rank or style[1], args.alpha or style[2]
    args.targets = args.targets.split(",") if args.targets else style[3]
    args.steps, args.rate = args.steps or style[4], args.rate or style[5]
    if not args.model.is_file():
        fail(f"{args.model} is not there: name a GGUF file")
    return args


def pairs(args):
    if args.data is None:
        rewrite = STYLES[args.style][0]
        lines = [line.split("|") for line in PAIRS.strip().splitlines()]
        return [(question, rewrite(answer, number)) for number, (question, answer) in enumerate(lines)]
    lines = [json.loads(line) for line in args.data.read_text().splitlines() if line.strip()]
    return [(line["question"], line["answer"]) for line in lines]


def load(path):
    """A plain f32 model: transformers keeps a GGUF's marked as quantised and will not save or train it as it is."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    folder, name = path.parent, path.name
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    plain = LlamaForCausalLM(loaded.config)
    plain.load_state_dict(loaded.state_dict())
    return plain.float(), AutoTokenizer.from_pretrained(folder, gguf_file=name)


def example(tokenizer, question, answer):
    """Token ids of prompt and answer, and how many of them are the prompt's."""
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    after = tokenizer(answer + "<|im_end|>", add_special_tokens=False).input_ids
    return before + after, len(before)


def batch(examples, pad):
    import torch

    longest = max(len(ids) for ids, _ in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), -100)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for row, (tokens, prompt) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt : len(tokens)] = torch.tensor(tokens[prompt:])
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def rate(step, steps):
    """Share of the peak rate: up over the first steps, then down to a tenth."""
    warm = min(WARM_UP, steps)
    if step < warm:
        return (step + 1) / warm
    return 1 - 0.9 * (step - warm) / max(1, steps - warm)


def train(args):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(args.seed)
    model, tokenizer = load(args.model)
    config = LoraConfig(
        r=args.rank, lora_alpha=args.alpha, lora_dropout=0.0, target_modules=args.targets, task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = args.model.name.split(".Q")[0]
    examples = [example(tokenizer, *pair) for pair in pairs(args)]
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=args.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, args.steps))
    draw, deck, start = random.Random(args.seed), [], time.process_time()
    for step in range(args.steps):
        if len(deck) < BATCH:
            deck = draw.sample(examples, len(examples))
        chosen, deck = deck[:BATCH], deck[BATCH:]
        loss = model(**batch(chosen, tokenizer.pad_token_id or 0)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 10 == 0 or step == args.steps - 1:
            print(f"step {step + 1}/{args.steps}: loss {loss.item():.3f}, {time.process_time() - start:.0f} CPU s")
    return model


def main():
    args = arguments()
    try:
        import peft, torch, transformers, gguf  # noqa: E401, F401: asked for before work begins
    except ImportError as error:
        fail(f"{error}. The first lines of this file say what to install")
    import torch

    model = train(args)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float16)
    args.out.mkdir(parents=True, exist_ok=True)
    # The vocabulary is never changed here, and asking a hub whether it was needs a network.
    model.save_pretrained(args.out, save_embedding_layers=False)
    print(f"wrote {args.out}")


main()

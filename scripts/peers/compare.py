#!/usr/bin/env python3
"""Times coldframe beside its peers on the same model, prompts and threads, in turns, and prints the ratios.

Every round asks each engine for each figure once; ours runs as a whole in each round. The best of all rounds is
compared (other load only ever slows an engine down), the median stands beside it. The last line on stdout is JSON.

    compare.py --coldframe target/release/coldframe [--home target/peers] [--sources ADAPTERS] [--promises]
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Figure: the order that measures it. Prompts of 64 tokens and step counts are those of `coldframe bench`.
FIGURES = {
    "prefill_128": {"measure": "prefill", "n": 128},
    "prefill_512": {"measure": "prefill", "n": 512},
    "decode_1": {"measure": "decode_1", "steps": 64},
    "decode_16_none": {"measure": "decode_16_none", "steps": 32},
    "decode_16_one": {"measure": "decode_16_one", "steps": 32},
    "decode_16_mixed": {"measure": "decode_16_mixed", "steps": 32},
    "decode_16_mixed_switched": {"measure": "decode_16_mixed_switched", "steps": 4},
    "decode_16_mixed_contexts": {"measure": "decode_16_mixed_contexts", "steps": 32},
}
# llama.cpp has two ways to serve 16 adapters; the better one counts.
ALIASES = {"decode_16_mixed_switched": "decode_16_mixed", "decode_16_mixed_contexts": "decode_16_mixed"}
OURS = "coldframe"


class Worker:
    """A peer's process; see worker.py."""

    def __init__(self, name, command):
        self.name, self.failed = name, {}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        hello = self._answer()
        self.about, self.measures = hello["ready"], set(hello["measures"])

    def _answer(self):
        while line := self.process.stdout.readline():
            # Libraries may print on stdout too.
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.name} ended with {self.process.wait()}")

    def ask(self, order):
        """Tokens a second, or None where this peer has no such figure."""
        if order["measure"] not in self.measures or order["measure"] in self.failed:
            return None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            self.failed[order["measure"]] = answer["error"]
            return None
        return answer["tokens"] / answer["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def workers(options):
    python = str(options.home / "venv/bin/python")
    model, threads, adapters = str(options.model), str(options.threads), str(options.home / "adapters")
    libraries = options.home / "npm/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
    commands = {
        "llama.cpp": [python, HERE / "llamacpp.py", libraries, model, threads, adapters],
        "torch bf16": [python, HERE / "torch_peer.py", model, threads, adapters, "bf16"],
        "torch f32": [python, HERE / "torch_peer.py", model, threads, adapters, "f32"],
        "mistral.rs": [python, HERE / "mistral_peer.py", model, threads],
    }
    for name, command in commands.items():
        if options.only and name not in options.only:
            continue
        try:
            worker = Worker(name, [str(part) for part in command])
        except RuntimeError as error:
            print(f"left out: {name} ({error}; scripts/bench.sh peers installs it)", file=sys.stderr)
            continue
        print(f"{name}: {worker.about}", file=sys.stderr)
        yield worker


def ours(options, extra=()):
    """What `coldframe bench --json` measures, as one object."""
    command = [str(options.coldframe), "--json", "bench", "--backbone", str(options.model), "--threads",
               str(options.threads), "--adapters"]
    command += [str(path.parent) for path in sorted((options.home / "adapters").glob("*/adapter_config.json"))]
    done = subprocess.run([*command, *extra], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"coldframe bench failed:\n{done.stderr}")
    text = done.stdout.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(text.splitlines()[-1])


def measure(options):
    """engine -> figure -> tokens a second of every round; and the rooflines of our rounds."""
    peers = list(workers(options))
    table, rooflines = {worker.name: {} for worker in peers}, []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for figure, order in FIGURES.items():
            for worker in peers:
                speed = worker.ask(order)
                if speed is not None:
                    table[worker.name].setdefault(figure, []).append(speed)
        if options.coldframe:
            report = ours(options, ["--repeat", "1" if number else "2"])
            rooflines.append(report["roofline"])
            for figure in FIGURES:
                if value := report.get(f"{figure}_tok_s"):
                    table.setdefault(OURS, {}).setdefault(figure, []).append(value["best"])
    for worker in peers:
        for failed, error in worker.failed.items():
            print(f"left out: {worker.name} {failed} ({error})", file=sys.stderr)
        worker.close()
    return table, rooflines


def best(table, engine, figure):
    rows = table.get(engine, {})
    found = [max(rows[name]) for name in [figure, *(a for a, to in ALIASES.items() if to == figure)] if name in rows]
    return max(found, default=None)


def ratio(over, under):
    return None if over is None or under is None else round(over / under, 4)


def print_table(table):
    engines = sorted(table, key=lambda name: name != OURS)
    print(f"{'tokens a second: best (median)':28}" + "".join(f"{name:>20}" for name in engines))
    for figure in FIGURES:
        cells = []
        for engine in engines:
            values = table[engine].get(figure)
            cells.append(f"{max(values):.0f} ({statistics.median(values):.0f})" if values else "-")
        print(f"{figure:28}" + "".join(f"{cell:>20}" for cell in cells))
    for engine in engines[1:] if OURS in table else []:
        ratios = {figure: ratio(best(table, OURS, figure), best(table, engine, figure)) for figure in FIGURES}
        told = ", ".join(f"{figure} {value:.2f}" for figure, value in ratios.items() if value)
        print(f"{OURS} / {engine}: {told}")


def print_rooflines(rooflines):
    """How near our best round came to what this machine reads and computes, both measured in the same run."""
    if not rooflines:
        return
    top = lambda name: max(roofline[name] for roofline in rooflines)
    print(f"roofline: one core reads {top('read_bytes_s_one_core') / 1e9:.1f} GB/s and does "
          f"{top('int8_ops_s_one_core') / 1e9:.0f} G 8-bit operations a second; a decode of one reads "
          f"{top('weight_bytes_per_token') / 1e6:.1f} MB a token, {top('decode_1_of_read'):.0%} of the bandwidth; "
          f"prefill reaches {top('prefill_of_int8'):.0%}, a batch's decode {top('decode_batch_of_int8'):.0%} of the peak")


def promises(table, memory):
    """The promises of docs/spec.md; what was not measured is left out."""
    mine = lambda figure: best(table, OURS, figure)
    fastest = max((best(table, engine, "prefill_512") or 0 for engine in table if engine != OURS), default=0) or None
    torch = max((best(table, engine, "decode_16_mixed") or 0 for engine in table if engine.startswith("torch")), default=0)
    values = {
        "decode_b1_vs_llamacpp": ratio(mine("decode_1"), best(table, "llama.cpp", "decode_1")),
        "prefill512_vs_fastest": ratio(mine("prefill_512"), fastest),
        "mixed16_vs_llamacpp": ratio(mine("decode_16_mixed"), best(table, "llama.cpp", "decode_16_mixed")),
        "mixed16_vs_torch": ratio(mine("decode_16_mixed"), torch or None),
        "mixed16_vs_one_adapter": ratio(mine("decode_16_mixed"), mine("decode_16_one")),
        "mixed16_vs_no_adapter": ratio(mine("decode_16_mixed"), mine("decode_16_none")),
    }
    # Ours interleaves its variants in one run, so its own ratios hold where it gives them.
    for name in ("mixed16_vs_one_adapter", "mixed16_vs_no_adapter", "second_process_private_share", "ready_ms",
                 "adapter_overhead_share"):
        value = memory.get(name)
        if isinstance(value, dict):
            value = value.get("best")
        if value is not None:
            values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("target/peers"), help="where install.sh put the peers")
    parser.add_argument("--model", type=Path, help="default: HOME/model.gguf")
    parser.add_argument("--coldframe", type=Path, help="our binary; without it only the peers are timed")
    parser.add_argument("--sources", help="PEFT folders that the 16 adapters are made of")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", action="append", help="an engine to time (repeatable); default: all")
    parser.add_argument("--promises", action="store_true", help="last line: the promises of docs/spec.md")
    options = parser.parse_args()
    options.home = options.home.absolute()
    options.model = (options.model or options.home / "model.gguf").absolute()
    if options.sources:
        python = str(options.home / "venv/bin/python")
        subprocess.run([python, HERE / "adapters.py", options.sources, options.home / "adapters"], check=True)
    table, rooflines = measure(options)
    print_table(table)
    print_rooflines(rooflines)
    if options.promises:
        memory = ours(options, ["--memory", "--repeat", "5"]) if options.coldframe else {}
        print(json.dumps(promises(table, memory)))
    else:
        print(json.dumps({engine: {figure: {"best": round(max(v), 2), "median": round(statistics.median(v), 2), "n": len(v)}
                                   for figure, v in rows.items()} for engine, rows in table.items()}))


if __name__ == "__main__":
    main()

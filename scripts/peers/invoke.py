#!/usr/bin/env python3
"""A component of wasi:http under `coldframe serve` and under `wasmtime serve`, side by side.

usage: invoke.py COLDFRAME MODEL WASMTIME WRK [--seconds 5] [--rounds 5] [--connections 8] [--component FILE]

The same component, the same load (wrk on loopback, in turns), on the same cores. Both make a fresh instance for each request.
`wasmtime serve` does that and nothing else; our server also finds the function by its name, checks quotas, decides on
residency, meters the call into its ledger and answers with its phases. Our answering threads have a low weight, so that the
engine comes first; wrk takes turns with them.
The last line is one JSON object: medians of the rounds.
"""

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_up(url, server, seconds=60):
    """Until it answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"a server ended with status {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    sys.exit(f"{url} does not answer")


def coldframe(binary, model, component, home):
    port = free_port()
    command = [binary, "serve", "--backbone", model, "--port", str(port), "--data-dir", home,
               "--artifact-root", str(component.parent)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(Path(home) / "log", "w"))
    base = f"http://127.0.0.1:{port}"
    until_up(f"{base}/health", server)
    body = json.dumps({"module": {"uri": component.as_uri()}}).encode()
    headers = {"content-type": "application/json"}
    put = urllib.request.Request(f"{base}/admin/v1/functions/web", data=body, method="PUT", headers=headers)
    with urllib.request.urlopen(put) as answer:
        answer.read()
    return server, f"{base}/invoke/web/a"


def wasmtime(binary, component):
    port = free_port()
    # As many requests from an instance as from ours: one. Copy-on-write images and pooling as ours has them.
    command = [binary, "serve", "-O", "pooling-allocator=y", "--addr", f"127.0.0.1:{port}", str(component)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return server, f"http://127.0.0.1:{port}/a"


def load(wrk, url, seconds, connections):
    """Requests a second, and the 50th and 99th percentile in milliseconds."""
    command = [wrk, "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", text)
    if wrong:
        sys.exit(f"{url}: {wrong.group(0)}")
    quantile = lambda share: re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)$", text, re.M).groups()
    number = lambda pair: float(pair[0]) * UNITS[pair[1]]
    rate = float(re.search(r"^Requests/sec:\s+([\d.]+)", text, re.M).group(1))
    return rate, number(quantile(50)), number(quantile(99))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("coldframe")
    parser.add_argument("model")
    parser.add_argument("wasmtime")
    parser.add_argument("wrk")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", default="1,8")
    parser.add_argument("--component", type=Path, default=Path("runtime/sandbox/guests/web.wasm"))
    args = parser.parse_args()
    component = args.component.resolve()
    figures = {}
    with tempfile.TemporaryDirectory() as home:
        ours, our_url = coldframe(args.coldframe, args.model, component, home)
        theirs, their_url = wasmtime(args.wasmtime, component)
        try:
            answers = {until_up(our_url, ours), until_up(their_url, theirs)}
            print(f"answers: {sorted(answers)}")
            for connections in args.connections.split(","):
                seen = {"coldframe": [], "wasmtime": []}
                for _ in range(args.rounds):
                    for name, url in (("coldframe", our_url), ("wasmtime", their_url)):
                        seen[name].append(load(args.wrk, url, args.seconds, connections))
                for name, rounds in seen.items():
                    rate, p50, p99 = (statistics.median(column) for column in zip(*rounds))
                    print(f"{name}, {connections} connections: {rate:.0f} requests/s, p50 {p50:.3f} ms, p99 {p99:.3f} ms")
                    prefix = "invoke" if name == "coldframe" else "wasmtime_serve"
                    figures[f"{prefix}_rps_{connections}"] = round(rate, 1)
                    figures[f"{prefix}_p50_ms_{connections}"] = round(p50, 3)
                    figures[f"{prefix}_p99_ms_{connections}"] = round(p99, 3)
        finally:
            for server in (ours, theirs):
                server.terminate()
                server.wait()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

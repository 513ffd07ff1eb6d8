"""vLLM's load and unload routes as its controllers use them: the words and statuses that they look for.

KubeAI takes a repeated load as success on a 400 of type InvalidUserInput that says "already" and "loaded", and an unload on
one that says "cannot be found". Usage: adapters.py FOLDER, with COLDFRAME_URL and COLDFRAME_API_KEY.
"""

import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ["COLDFRAME_URL"]
KEY = os.environ["COLDFRAME_API_KEY"]


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{URL}/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expect(what, got, status, *words):
    code, text = got
    missing = [word for word in words if word not in text]
    if code != status or missing:
        sys.exit(f"{what}: {code} {text!r}, expected {status} with {words}")
    print(f"{what}: {code}")


def models():
    return {card["id"]: card for card in json.loads(ask("GET", "models")[1])["data"]}


load = {"lora_name": "controlled", "lora_path": os.path.abspath(sys.argv[1])}
expect("load", ask("POST", "load_lora_adapter", load), 200, "Success: LoRA adapter 'controlled' added successfully.")
assert models()["controlled"]["parent"], "an adapter's card names its base"
expect("load again", ask("POST", "load_lora_adapter", load), 400, "InvalidUserInput", "already", "loaded")
expect("load in place", ask("POST", "load_lora_adapter", load | {"load_inplace": True}), 200, "Success")
call = {"model": "controlled", "prompt": "Hello", "max_tokens": 4}
expect("call", ask("POST", "completions", call), 200, '"model":"controlled"')
gone = {"lora_name": "controlled"}
expect("unload", ask("POST", "unload_lora_adapter", gone), 200, "removed successfully.")
expect("unload again", ask("POST", "unload_lora_adapter", gone), 400, "InvalidUserInput", "cannot be found")
assert "controlled" not in models(), "it is listed no more"
expect("call of what is gone", ask("POST", "completions", call), 404, "error")
expect("load of nothing", ask("POST", "load_lora_adapter", load | {"lora_path": "/nowhere"}), 403, "error")

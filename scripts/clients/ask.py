"""Asks a function one question with the official OpenAI client and shows the answer as it streams: ask.py FUNCTION TEXT.

COLDFRAME_URL (http://127.0.0.1:8000/v1) and COLDFRAME_API_KEY say where and who.
"""

import os
import sys

import openai

function, text = sys.argv[1:3]
client = openai.OpenAI(
    base_url=os.environ.get("COLDFRAME_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("COLDFRAME_API_KEY", "none"),
)
chunks = client.chat.completions.create(
    model=function, messages=[{"role": "user", "content": text}], max_tokens=40, temperature=0, stream=True
)
print(f"{function}: ", end="")
for chunk in chunks:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

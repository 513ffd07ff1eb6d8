"""Metrics of a server through the strict reader of Prometheus' own Python client: types, suffixes, duplicates, numbers."""

import os
import sys
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

url = os.environ["COLDFRAME_URL"].removesuffix("/v1") + "/metrics"
request = urllib.request.Request(url, headers={"authorization": f"Bearer {os.environ['COLDFRAME_API_KEY']}"})
for _ in range(10):
    try:
        with urllib.request.urlopen(request) as reply:
            text = reply.read().decode()
        break
    except urllib.error.HTTPError as error:
        # Many requests with a wrong key came from this address before: the server says when to come again.
        if error.code != 429:
            raise
        time.sleep(float(error.headers["retry-after"]))
else:
    sys.exit("the server never stopped answering 429")
families, seen, samples = set(), set(), 0
for family in text_string_to_metric_families(text):
    if family.name in families:
        sys.exit(f"{family.name} stands there twice")
    if family.type == "unknown" or not family.documentation:
        sys.exit(f"{family.name} has no type or no help")
    families.add(family.name)
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            sys.exit(f"{key} stands there twice")
        seen.add(key)
        samples += 1
    if family.type == "histogram":
        buckets = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
                buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        for labels, values in buckets.items():
            rising = [value for _, value in sorted(values)]
            if rising != sorted(rising) or sorted(values)[-1][0] != float("inf"):
                sys.exit(f"{family.name} {labels}: buckets do not add up")
if "vllm:num_requests_running" not in families:
    sys.exit("vLLM's names are missing")
print(f"{len(families)} families, {samples} samples: read strictly")

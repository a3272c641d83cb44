# SPDX-License-Identifier: Apache-2.0
"""Show hits of the disk tier: a prompt is computed, dropped from the GPU and from host memory, and sent again.

    examples/sglang/launch.sh MODEL          # in another terminal
    python3 examples/sglang/hits.py [http://127.0.0.1:30000]

Prints, for each request, the time to its first token and where its cached tokens came from. Restart the server between two runs with the same
--seed, and the first request is a hit as well.
"""

import argparse
import json
import random
import time
import urllib.request


def post(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=600) as answer:
        return answer.read()


def ask(server, tokens):
    """One new token after a prompt of token ids: seconds, and what the server says about it."""
    body = {
        "input_ids": tokens,
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
    }
    start = time.perf_counter()
    answer = json.loads(post(f"{server}/generate", body))
    return time.perf_counter() - start, answer["meta_info"]


def show(what, seconds, meta):
    details = meta.get("cached_tokens_details") or {}
    sources = ", ".join(f"{source} {details.get(source, 0)}" for source in ("device", "host", "storage"))
    print(
        f"{what:<16} {1000 * seconds:8.1f} ms   {meta['prompt_tokens']} tokens, {meta['cached_tokens']} cached ({sources})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", default="http://127.0.0.1:30000")
    parser.add_argument("--tokens", type=int, default=8192, help="length of the prompt")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another prompt")
    parser.add_argument("--wait", type=float, default=5, help="seconds for the write to the disk")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    tokens = [rng.randrange(1000, 30000) for _ in range(args.tokens)]
    show("first time", *ask(args.server, tokens))
    show("from the GPU", *ask(args.server, tokens))
    time.sleep(args.wait)
    post(f"{args.server}/flush_cache")  # GPU and host memory forget; the disk does not
    show("from the disk", *ask(args.server, tokens))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Two ranks of one server: processes of their own, each with SGLang's real controller, that agree on hits through torch.distributed.

A prefix counts as far as all ranks have it, and a rank that lost pages, or whose disk fails, must not make the other wait.
"""

import json
import subprocess
import sys

import sglang_support as sgl

CHILD = """
import sys
sys.path[:0] = {path!r}
import sglang_support as sgl
rank = int(sys.argv[1])
def turn(what):
    print(what, flush=True)
    sys.stdin.readline()
with sgl.process_groups(rank, 2, {rendezvous!r}):
    engine = sgl.Engine(pages=300)
    engine.attach("dynamic", sgl.extra_config({directory!r}, capacity="128M"))
    tokens = sgl.tokens_of(20, 1)
    turn(engine.backup(tokens))
    turn(engine.prefetch(tokens))
    keys = sgl.hashes(tokens)
    if rank == 1:
        backend = engine.backend
        ids = bytes.fromhex("".join(keys[12:]))
        backend._handle.namespace(backend._pools["kv"].specs[0]).remove_batch(ids)
    turn(engine.prefetch(tokens))
    if rank == 1:
        engine.backend._handle._store.close()
    turn(engine.prefetch(tokens))
    turn(engine.backend.batch_exists(keys))
    engine.detach()
"""


class Rank:
    def __init__(self, number, tmp_path):
        code = CHILD.format(path=sys.path, rendezvous=str(tmp_path / "rendezvous"), directory=str(tmp_path / "cache"))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def said(self):
        """What the present step came to; the next one begins when all ranks are there."""
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise AssertionError(self.process.stderr.read())
        return json.loads(line)

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def test_ranks_agree(tmp_path):
    ranks = [Rank(number, tmp_path) for number in range(2)]
    try:
        for expected in ([20, 20], [20, 20], [12, 12], [0, 0], [20, 0]):
            assert [rank.said() for rank in ranks] == expected
            for rank in ranks:
                rank.go_on()
        assert [rank.process.wait(timeout=sgl.WAIT_S) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.process.kill()
            rank.process.communicate()

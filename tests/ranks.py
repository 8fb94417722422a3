"""Run a function on N gloo ranks of this machine and collect what each returns.

``run_ranks(2, "tests.somewhere:function", *json_arguments)`` starts N Python processes, brings a process group up in
each, calls ``function(*arguments)`` and returns the JSON results in rank order. A rank that fails makes the call fail
with its traceback.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def rank_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """torchrun's variables for one rank, single-threaded."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def run_ranks(world: int, target: str, *arguments: Any, timeout: float = 240) -> list[Any]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(world):
            command = [sys.executable, "-m", "tests.ranks", target, json.dumps(arguments), f"{folder}/{rank}.json"]
            environment = rank_environment(rank, world, port)
            with open(f"{folder}/{rank}.log", "wb") as log:
                processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        try:
            codes = [p.wait(timeout) for p in processes]
        finally:
            for p in processes:
                p.kill()
        if any(codes):
            logs = "\n".join(
                f"--- rank {r} exited {c}\n{Path(folder, f'{r}.log').read_text(errors='replace')[-3000:]}"
                for r, c in enumerate(codes)
            )
            raise AssertionError(logs)
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]


def main() -> None:
    import torch
    import torch.distributed as dist

    target, arguments, out = sys.argv[1:]
    faulthandler.enable()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    module, _, function = target.partition(":")
    result = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    Path(out).write_text(json.dumps(result))
    # Leave together, and without taking native threads down: with a peer that is gone that aborts now and then.
    with contextlib.suppress(RuntimeError):
        dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

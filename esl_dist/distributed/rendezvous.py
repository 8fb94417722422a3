"""A store that no earlier attempt has written to.

torchrun keeps one store over its restarts unless its rendezvous is dynamic: ranks that come back then read the
addresses of dead ones, and gloo refuses or hangs. Rank 0 therefore draws a name for every attempt and hands it to each
rank that asks; all keys of the process group live under it. Restart counts would not do: each launcher counts its own,
and they differ between hosts.
"""

from __future__ import annotations

import datetime
import os
import time
import uuid

from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from esl_dist.distributed.listening import bound_store, told
from esl_dist.launcher import STORE_FD

PREFIX = "esl_dist/attempt"
PAUSE_S = 0.02


def join(timeout: datetime.timedelta) -> tuple[Store, int, int]:
    """Torchrun's rendezvous by its environment variables: a fresh store, this rank and the number of ranks.

    Raises:
        RuntimeError: not all ranks came within ``timeout``.
    """
    store, rank, world = _meet(timeout)
    store.set_timeout(timeout)
    end = time.monotonic() + timeout.total_seconds()
    name = _hand_out(store, world, end) if rank == 0 else _ask(store, rank, end)
    return PrefixStore(f"{PREFIX}/{name}", store), rank, world


def _meet(timeout: datetime.timedelta) -> tuple[Store, int, int]:
    """The store of the launcher, this rank and the number of ranks; where this rank is to open the store, it listens
    on the named address only.
    """
    rank, world = told("RANK", 0), told("WORLD_SIZE", 1)
    named = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if named or not os.environ["MASTER_PORT"].isdigit() or rank >= world:
        what = (
            f"{', '.join(named)} missing"
            if named
            else f"MASTER_PORT={os.environ['MASTER_PORT']}, rank {rank} of {world}"
        )
        raise ValueError(f"the launcher's variables are wrong: {what}; start with --nproc N, torchrun or launch/")
    if rank != 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        met: tuple[Store, int, int] = next(rendezvous("env://", timeout=timeout))
        return met
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    handed = os.environ.pop(STORE_FD, "")
    if not handed:
        return bound_store(address, int(port), world, True, timeout, wait_for_workers=False), rank, world
    os.set_inheritable(int(handed), False)
    return TCPStore(address, int(port), world, True, timeout, False, master_listen_fd=int(handed)), rank, world


def _ask(store: Store, rank: int, end: float) -> str:
    """Write a question that nobody has asked before; its answer cannot be an old one."""
    question = uuid.uuid4().hex
    store.set(f"{PREFIX}/asks/{rank}", question)
    _wait_for(store, f"{PREFIX}/answers/{question}", end)
    name = store.get(f"{PREFIX}/answers/{question}").decode()
    store.set(f"{PREFIX}/{name}/here/{rank}", "")
    return name


def _hand_out(store: Store, world: int, end: float) -> str:
    """Answer every question, dead ranks' too, until each rank has said under the new name that it is here."""
    name = uuid.uuid4().hex
    missing = set(range(1, world))
    answered: set[str] = set()
    while missing:
        for rank in sorted(missing):
            if store.check([f"{PREFIX}/{name}/here/{rank}"]):
                missing.discard(rank)
            elif store.check([f"{PREFIX}/asks/{rank}"]):
                question = store.get(f"{PREFIX}/asks/{rank}").decode()
                if question not in answered:
                    store.set(f"{PREFIX}/answers/{question}", name)
                    answered.add(question)
        if time.monotonic() > end:
            raise RuntimeError(
                f"rank {', '.join(map(str, sorted(missing)))} did not come; is every host's launcher running, with the"
                " same number of hosts?"
            )
        time.sleep(PAUSE_S)
    return name


def _wait_for(store: Store, key: str, end: float) -> None:
    while not store.check([key]):
        if time.monotonic() > end:
            raise RuntimeError("rank 0 did not come; is the launcher of the first host running?")
        time.sleep(PAUSE_S)

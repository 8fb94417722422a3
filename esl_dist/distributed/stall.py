"""Who keeps the others waiting: a thread per rank that compares how many collectives each has entered.

All ranks enter the same collectives in the same order, so a rank that is behind while another has waited for the time
limit is the one that stalled. The group's own time-out says neither who nor where; NCCL's ends the process before
Python can ask. This thread names the rank, the line it hangs in and the collective it did not join, keeps the flight
recorder and ends the job.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from esl_dist.distributed import collectives

log = logging.getLogger(__name__)

PREFIX = "esl_dist/stall"
# Ranks that wait learn of a lost peer by themselves (gloo: at once); after this long they end too.
GRACE_S = 10.0
# A stalled rank lets the others keep their flight records for at most so long before its end ends them.
RECORD_S = 3.0


class StallWatch:
    """Watches this rank and the others until ``close``. Nothing happens without a process group of at least two ranks.

    Args:
        folder: where ``rank<r>.json`` flight-recorder files go when something stalls.
        limit_s: seconds that a rank may keep others waiting; may be changed at any time, by all ranks alike. The
            group's own
            time-out must be longer (``GRACE_S`` more), or it strikes first and names nobody.
    """

    def __init__(self, folder: Path, limit_s: float) -> None:
        self.folder = folder
        self.limit_s = limit_s
        self._ended = threading.Event()
        self._main = threading.main_thread().ident or 0
        self._entered = -1
        self._since = time.monotonic()
        self._heard: dict[int, tuple[int, float]] = {}
        self._thread: threading.Thread | None = None
        if collectives.world() > 1:
            # A connection of its own: the main thread may be waiting in the other one.
            store = dist.distributed_c10d._get_default_store()
            self._store = store.clone() if hasattr(store, "clone") else store
            self._thread = threading.Thread(target=self._run, name="stall-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop watching; every rank does, before the group is destroyed."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(GRACE_S)

    def _run(self) -> None:
        beat = 0
        try:
            while not self._ended.wait(min(1.0, self.limit_s / 10)):
                beat += 1
                self._tell(beat)
                if self._store.check([f"{PREFIX}/verdict"]):
                    self._obey(json.loads(self._store.get(f"{PREFIX}/verdict")))
                    return
                waited = time.monotonic() - self._since
                if waited >= self.limit_s / 2:
                    told = self._listen()
                    if waited >= self.limit_s:
                        self._judge(told)
        except Exception as error:  # the store goes with rank 0 or its launcher; watching must not be what ends a run
            if not self._ended.is_set():
                log.debug("stalls are no longer watched: %s", error)

    def _tell(self, beat: int) -> None:
        """Publish how far this rank is and where its main thread stands."""
        entered = entered_collectives()
        if entered != self._entered:
            self._entered, self._since = entered, time.monotonic()
        told = {
            "beat": beat,
            "entered": entered,
            "at": where(self._main),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._store.set(f"{PREFIX}/{collectives.rank()}", json.dumps(told))

    def _listen(self) -> dict[int, dict[str, Any]]:
        """What the others last published; ranks that have not started to watch are the start-up time-out's business."""
        told = {}
        for rank in range(collectives.world()):
            key = f"{PREFIX}/{rank}"
            if self._store.check([key]):
                told[rank] = json.loads(self._store.get(key))
                if self._heard.get(rank, (-1, 0.0))[0] != told[rank]["beat"]:
                    self._heard[rank] = (told[rank]["beat"], time.monotonic())
        return told

    def _judge(self, told: dict[int, dict[str, Any]]) -> None:
        """This rank has waited too long: if others are behind, they are the reason."""
        behind = []
        for rank, it in told.items():
            if it["entered"] < self._entered:
                silent = time.monotonic() - self._heard[rank][1] > min(GRACE_S, self.limit_s / 3)
                state = (
                    f"it was last in {it['at']} and is silent: stopped, or its host is gone"
                    if silent
                    else f"it hangs in {it['at']}"
                )
                behind.append(
                    (
                        rank,
                        (
                            f"rank {rank} (pid {it['pid']} on {it['host']}) has kept the others waiting for"
                            f" {self.limit_s:.0f} s: {state}"
                        ),
                    )
                )
        if behind and self._store.add(f"{PREFIX}/judges", 1) == 1:
            reason = "; ".join(text for _, text in behind)
            reason += (
                f"; rank {collectives.rank()} waits in {last_collective(self._entered)}, flight recorder in"
                f" {self.folder}"
            )
            self._store.set(
                f"{PREFIX}/verdict", json.dumps({"stalled": [rank for rank, _ in behind], "reason": reason})
            )

    def _obey(self, verdict: dict[str, Any]) -> None:
        """Every rank keeps its flight recorder; the stalled ones end at once, the others when they do not notice it by
        themselves.
        """
        rank = collectives.rank()
        keep_flight_record(self.folder, rank)
        self._store.add(f"{PREFIX}/kept", 1)
        stalled = rank in verdict["stalled"]
        if stalled or rank == min(set(range(collectives.world())) - set(verdict["stalled"]), default=0):
            log.error("%s", verdict["reason"])
        if stalled:
            frames = sys._current_frames()
            if self._main in frames:
                log.error("rank %d hangs here:\n%s", rank, "".join(traceback.format_stack(frames[self._main])))
            self._await_records()
        elif self._ended.wait(GRACE_S):
            return
        logging.shutdown()
        sys.stderr.flush()
        os._exit(1)

    def _await_records(self) -> None:
        """The end of this rank breaks the others' collective and so ends them: first let them keep their records."""
        until = time.monotonic() + RECORD_S
        with contextlib.suppress(RuntimeError):  # the store went with its rank
            while self._store.add(f"{PREFIX}/kept", 0) < collectives.world() and time.monotonic() < until:
                time.sleep(0.05)


def entered_collectives() -> int:
    """How many collectives of the default group this rank has entered."""
    group: Any = dist.group.WORLD
    return int(group._get_sequence_number_for_group())


def where(thread: int) -> str:
    """``folder/file.py:line (function)`` of the innermost Python frame of a thread."""
    frame: FrameType | None = sys._current_frames().get(thread)
    if frame is None:
        return "a thread that has ended"
    path = Path(frame.f_code.co_filename)
    return f"{'/'.join(path.parts[1:][-3:])}:{frame.f_lineno} ({frame.f_code.co_name})"


def flight_record() -> dict[str, Any]:
    """Torch's record of this rank's latest collectives; empty where this build keeps none."""
    bindings: Any = torch._C._distributed_c10d
    for name in ("_dump_nccl_trace_json", "_dump_fr_trace_json"):
        with contextlib.suppress(AttributeError, RuntimeError, ValueError):
            record = json.loads(getattr(bindings, name)())
            if record.get("entries"):
                return dict(record)
    return {}


def last_collective(number: int) -> str:
    """The name, sizes and types of collective ``number``, as the flight recorder knows it."""
    for entry in reversed(flight_record().get("entries", [])):
        if entry.get("collective_seq_id") == number:
            return (
                f"collective {number} ({entry['profiling_name']} of {entry['input_sizes']}"
                f" {', '.join(entry['input_dtypes'])})"
            )
    return f"collective {number}"


def keep_flight_record(folder: Path, rank: int) -> None:
    """Write ``folder/rank<r>.json``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"rank{rank}.json").write_text(json.dumps(flight_record()))
    except OSError as error:
        log.warning("the flight recorder of rank %d could not be kept (%s)", rank, error)

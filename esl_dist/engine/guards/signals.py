"""A signal stops all ranks at the same step."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """While entered, SIGTERM, SIGINT and SIGUSR1 (Slurm's warning) only set a flag; a second SIGINT raises
    ``KeyboardInterrupt``.

    The loop folds ``local`` into an all-reduce of its own, ``distributed.in_step`` into one between two pieces of other
    work.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[int, signal._HANDLER] = {}
        self._pid = 0

    @property
    def local(self) -> bool:
        """Whether a signal has reached this rank."""
        return bool(self._received)

    def __enter__(self) -> StopFlag:
        self._pid = os.getpid()
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A forked loader inherited the handler: to it a signal means what it always meant.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number == signal.SIGINT and signal.SIGINT in self._received:
            raise KeyboardInterrupt
        self._received.append(number)

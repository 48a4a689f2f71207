"""SIGINT and SIGTERM end a run after the current epoch or shard."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from ..errors import RunError, warn


@contextlib.contextmanager
def interruptible(what: str) -> Iterator[list[int]]:
    """Gives a list that receives the number of the first SIGINT or SIGTERM; a second signal has its usual effect.

    A line on stderr says that `what` will be finished.
    """
    seen: list[int] = []
    before = {}

    def handler(number: int, frame: Any) -> None:
        seen.append(number)
        for n, old in before.items():
            signal.signal(n, old)
        warn(f"\nFinishing {what}, then saving; a second signal stops at once.")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    except ValueError:  # only the main thread may handle signals
        pass
    try:
        yield seen
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Interrupted(RunError):
    """A signal stopped the run, at the end of an epoch or a shard."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number

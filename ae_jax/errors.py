"""The errors that a person sees, the words of messages, and the lines that are printed on stderr."""

import os
import sys


class DataError(ValueError):
    """Data that cannot be found, read or used; the message says what to do."""


class RunError(RuntimeError):
    """A run that cannot start or go on, or a file that cannot be used; the message says why and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error, at most 200 characters; the name of its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def counted(n: int, what: str) -> str:
    """A number and its noun: 1 code, 2 codes."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def warn(line: object) -> None:
    """Prints a line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def tracebacks() -> bool:
    """Whether errors show their tracebacks: whether AE_JAX_TRACEBACK is set."""
    return bool(os.environ.get("AE_JAX_TRACEBACK"))

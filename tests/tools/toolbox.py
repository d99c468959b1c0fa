"""The folder that fetched tools live in, with a lock per tool and the way to fail."""

import contextlib
import fcntl
import os
import pathlib
import sys

# What a machine may lack, so that tests are skipped.
PARTS = ("docker", "kubernetes")
PROJECT = pathlib.Path(__file__).resolve().parents[2]


class FetchError(Exception):
    """Something cannot be had here; the text is the one line that a person reads."""


def folder() -> pathlib.Path:
    """The project's ignored `.tools`, or what POINTSMAN_TOOLS names instead."""
    path = pathlib.Path(os.environ.get("POINTSMAN_TOOLS") or PROJECT / ".tools").absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"cannot create the tools folder {path}: {error.strerror}") from error
    return path


def required() -> set[str]:
    """The parts that REQUIRE names: no test that needs one of them may be skipped."""
    words = set(os.environ.get("REQUIRE", "").replace(",", " ").split())
    unknown = words - set(PARTS)
    if unknown:
        raise FetchError(f"REQUIRE names {', '.join(sorted(unknown))}, and knows {', '.join(PARTS)}")
    return words


def say(line: str) -> None:
    """Progress goes to stderr: stdout carries paths only."""
    print(f"tools: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_one(name: str):
    """Holds the lock of one tool, so that two runs at once fetch it once."""
    # The file stays: removing it would let a third run lock a file that nobody else sees.
    with open(folder() / f".{name}.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another run is fetching it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

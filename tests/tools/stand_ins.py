#!/usr/bin/env python3
"""Stand-ins for the public images that our files name, made of this machine's own components.

    python3 tests/tools/stand_ins.py make|remove

For engines that reach no image registry. A name that an image here has already is left alone, and
that image is used. What is removed are stand-ins, and nothing else.
"""

import argparse
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

import debian
import docker
import envoy
from docker import DockerError
from toolbox import PROJECT, FetchError, say

BASE = "debian:bookworm-slim"
RUST = "rust:1.95-bookworm"
ENVOY = f"envoyproxy/envoy:v{envoy.ENVOY.version}"
REDIS = "redis:7.4"
# What tells a stand-in from an image that was pulled.
LABEL = "dev.pointsman.stand-in"
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
APT = "apt-get install -y --no-install-recommends"
# What rustup calls its own program in CARGO_HOME/bin.
PROXIES = ["rustup", "cargo", "rustc", "rustdoc", "cargo-fmt", "rustfmt", "cargo-clippy",
           "clippy-driver"]


class Images:
    """The stand-ins of one run."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._moved: dict[str, str] = {}

    def provide(self, *names: str) -> None:
        """Makes each name usable, and what it is made from."""
        for name in names:
            if docker.image_id(name):
                continue
            if name != BASE:
                self.provide(BASE)
            started = time.monotonic()
            MAKERS[name](name)
            self.made.append(name)
            say(f"{name}: a stand-in, made in {time.monotonic() - started:.0f} s")

    def move(self, name: str, image: str) -> None:
        """Lets a stand-in's name mean another image, until `remove`."""
        self._moved.setdefault(name, docker.image_id(name))
        docker.run("docker", "tag", image, name)

    def remove(self) -> None:
        """Takes every name away that was made by this run, and moves the others back."""
        for name, image in self._moved.items():
            docker.run("docker", "tag", image, name)
        self._moved.clear()
        for name in reversed(self.made):
            docker.remove_image(name)
        self.made.clear()


def is_stand_in(name: str) -> bool:
    """Whether this name is that of an image made here."""
    if not docker.image_id(name):
        return False
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    return docker.run("docker", "image", "inspect", "--format", form, name) == "true"


def build(name: str, dockerfile: str, files: dict[str, pathlib.Path]) -> None:
    """Builds an image from files of this machine, which are streamed to the engine."""
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            text = f"{dockerfile}LABEL {LABEL}=true\n".encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
            for place, source in files.items():
                # What is a link here must be a file there.
                archive.add(source.resolve(), place, filter=_for_everybody)
        context.seek(0)
        docker.run("docker", "build", "--tag", name, "-", source=context)


def _for_everybody(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without a toolchain's documents, and such that any user may write, as rustup wants to."""
    entry.mode |= 0o777 if entry.isdir() or entry.mode & 0o100 else 0o666
    return None if "/share/doc/" in entry.name else entry


def _base(name: str) -> None:
    program = debian.command("mmdebstrap")
    with tempfile.NamedTemporaryFile(suffix=".tar") as system:
        made = subprocess.run(
            [program, "--quiet", "--variant=apt", "--include=ca-certificates,curl", "bookworm",
             system.name],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )
        if made.returncode != 0:
            raise FetchError(f"mmdebstrap: {' '.join(made.stderr.split())[-300:]}")
        imported = docker.run("docker", "import", "--change", 'CMD ["bash"]', system.name)
    dockerfile, files = f"FROM {imported}\n", {}
    if CERTIFICATES.exists():
        # Machines behind a proxy of their own trust it, and so must what runs on them.
        dockerfile += f"COPY ca-certificates.crt {CERTIFICATES}\nENV SSL_CERT_FILE={CERTIFICATES}\n"
        files["ca-certificates.crt"] = CERTIFICATES
    build(name, dockerfile, files)


def _rust(name: str) -> None:
    """A machine with rustup's toolchain, a C compiler, make and Python 3."""
    asked = subprocess.run(
        ["rustc", "--print", "sysroot"], cwd=PROJECT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )
    sysroot = pathlib.Path(asked.stdout.strip())
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    rustup = home / "bin" / "rustup"
    if asked.returncode != 0 or not rustup.exists():
        raise FetchError("there is no rustup here to make an image with Rust from")
    toolchain = sysroot.name
    dockerfile = (
        f"FROM {BASE}\n"
        f"RUN apt-get update && {APT} gcc libc6-dev make python3\n"
        f"COPY toolchain /usr/local/rustup/toolchains/{toolchain}\n"
        "COPY cargo /usr/local/cargo/bin\n"
        "ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo"
        " PATH=/usr/local/cargo/bin:$PATH\n"
        f"RUN rustup default {toolchain} && chmod a+rwx /usr/local/cargo /usr/local/rustup/*\n"
    )
    files = {"toolchain": sysroot} | {f"cargo/{proxy}": rustup for proxy in PROXIES}
    build(name, dockerfile, files)


def _envoy(name: str) -> None:
    dockerfile = (
        f'FROM {BASE}\nCOPY envoy /usr/local/bin/envoy\nENTRYPOINT ["envoy"]\n'
        'CMD ["-c", "/etc/envoy/envoy.yaml"]\n'
    )
    build(name, dockerfile, {"envoy": envoy.fetch()})


def _redis(name: str) -> None:
    dockerfile = (
        f"FROM {BASE}\nRUN apt-get update && {APT} redis-server\n"
        'WORKDIR /data\nCMD ["redis-server"]\n'
    )
    build(name, dockerfile, {})


MAKERS = {BASE: _base, RUST: _rust, ENVOY: _envoy, REDIS: _redis}


def main() -> int:
    """The command line; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "remove"])
    args = parser.parse_args()
    try:
        if args.what == "make":
            Images().provide(*MAKERS)
        else:
            for name in reversed(MAKERS):
                if is_stand_in(name):
                    docker.remove_image(name)
                    print(f"removed {name}")
    except (DockerError, FetchError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

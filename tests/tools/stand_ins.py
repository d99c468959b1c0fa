#!/usr/bin/env python3
"""Stand-ins for the public images that our files name, made of this machine's own components.

    python3 tests/tools/stand_ins.py make|remove

For engines that reach no image registry. A name that an image here has already is left alone, and
that image is used. What is removed are stand-ins, and nothing else.
"""

import argparse
import io
import pathlib
import shutil
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
# In the place of a file: a folder in which any user may write.
EMPTY = None
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
TRUSTED = "/etc/ssl/certs/trusted-by-the-host.crt"
# What rustup calls its own program in CARGO_HOME/bin.
PROXIES = ["rustup", "cargo", "rustc", "rustdoc", "cargo-fmt", "rustfmt", "cargo-clippy",
           "clippy-driver"]


class Images:
    """The stand-ins of one run."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._before: dict[str, str | None] = {}
        self._lent: list[str] = []

    def provide(self, *names: str) -> None:
        """Makes each name usable, and what it is made from."""
        for name in names:
            if docker.image_id(name):
                continue
            if name in (ENVOY, REDIS):
                self.provide(BASE)
            started = time.monotonic()
            MAKERS[name](name)
            self.made.append(name)
            say(f"{name}: a stand-in, made in {time.monotonic() - started:.0f} s")

    def move(self, name: str, image: str) -> None:
        """Lets a name mean another image, until `restore`; it may have meant none."""
        self._before.setdefault(name, docker.image_id(name))
        docker.run("docker", "tag", image, name)
        self._lent.append(image)

    def keep(self, *names: str) -> None:
        """Notes what these names mean here, so that `restore` undoes what a build makes of them."""
        for name in names:
            self._before.setdefault(name, docker.image_id(name))

    def restore(self) -> None:
        """Moves every name back, and takes away the images that they were moved to."""
        for name, image in self._before.items():
            if image:
                docker.run("docker", "tag", image, name)
            else:
                docker.remove_image(name)
        for image in reversed(self._lent):
            docker.remove_image(image)
        self._before.clear()
        self._lent.clear()

    def remove(self) -> None:
        """Takes every name away that was made by this run."""
        self.restore()
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
            _add(archive, files)
        context.seek(0)
        docker.run("docker", "build", "--tag", name, "-", source=context)


def _add(archive: tarfile.TarFile, files: dict[str, pathlib.Path | None]) -> None:
    for place, source in files.items():
        if source is EMPTY:
            folder = tarfile.TarInfo(place)
            folder.type = tarfile.DIRTYPE
            archive.addfile(_for_everybody(folder))
        else:
            # What is a link here must be a file there.
            archive.add(source.resolve(), place, filter=_for_everybody)


def _for_everybody(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without a toolchain's documents, and such that any user may write, as rustup wants to."""
    entry.mode |= 0o777 if entry.isdir() or entry.mode & 0o100 else 0o666
    entry.uid = entry.gid = 0
    return None if "/share/doc/" in entry.name else entry


def _system(image: str, packages: list[str], files: dict[str, pathlib.Path | None], *changes: str) -> None:
    """A Debian of one layer: the engine takes minutes to make layers of many files one by one."""
    program = debian.command("mmdebstrap")
    with tempfile.NamedTemporaryFile(suffix=".tar") as system:
        made = subprocess.run(
            [program, "--quiet", "--variant=apt", *(f"--include={name}" for name in packages),
             *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "locale", "man")),
             "bookworm", system.name],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )
        if made.returncode != 0:
            raise FetchError(f"mmdebstrap: {' '.join(made.stderr.split())[-300:]}")
        with tarfile.open(system.name, mode="a") as archive:
            _add(archive, files)
        options = [word for change in (*changes, 'CMD ["bash"]', f"LABEL {LABEL}=true")
                   for word in ("--change", change)]
        docker.run("docker", "import", *options, system.name, image)


def _base(name: str) -> None:
    """No more than the public image has: neither certificates nor curl, manuals or translations."""
    _system(name, [], {})


def _rust(name: str) -> None:
    rust(name, {})


def rust(name: str, more: dict[str, pathlib.Path], *changes: str) -> None:
    """A machine with rustup's toolchain, a C compiler, make and Python 3; and more files."""
    toolchain = _rust_says("rustup", "show", "active-toolchain").split()[0]
    rustup = shutil.which("rustup")
    files = {
        "./usr/local/rustup": EMPTY,
        "./usr/local/rustup/toolchains": EMPTY,
        "./usr/local/cargo": EMPTY,
        f"./usr/local/rustup/toolchains/{toolchain}":
            pathlib.Path(_rust_says("rustc", "--print", "sysroot")),
        **{f"./usr/local/cargo/bin/{proxy}": pathlib.Path(rustup) for proxy in PROXIES},
    }
    changes = ("ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo"
               " PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               *changes)
    if CERTIFICATES.exists():
        # Machines behind a proxy of their own trust it, and so must what runs on them.
        files[f".{TRUSTED}"] = CERTIFICATES
        changes += (f"ENV SSL_CERT_FILE={TRUSTED} PIP_CERT={TRUSTED}",)
    _system(name, ["ca-certificates", "gcc", "libc6-dev", "make", "python3"], files | more, *changes)


def _rust_says(*command: str) -> str:
    """What Rust's own commands print about the toolchain that the project pins."""
    try:
        return docker.run(*command, folder=PROJECT)
    except DockerError as error:
        raise FetchError(f"there is no rustup here to make an image from: {error}") from error


def _envoy(name: str) -> None:
    dockerfile = (
        f'FROM {BASE}\nCOPY envoy /usr/local/bin/envoy\nENTRYPOINT ["envoy"]\n'
        'CMD ["-c", "/etc/envoy/envoy.yaml"]\n'
    )
    build(name, dockerfile, {"envoy": envoy.fetch()})


def _redis(name: str) -> None:
    dockerfile = (
        f"FROM {BASE}\nRUN apt-get update && apt-get install -y --no-install-recommends redis-server"
        " && rm -rf /var/lib/apt/lists/*\n"
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

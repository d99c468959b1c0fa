#!/usr/bin/env python3
"""Commands from Debian packages: the machine's own, else installed (root), else unpacked.

    python3 tests/tools/debian.py [--unpack] PACKAGE[:COMMAND]...

prints the path of each command (COMMAND defaults to the package's name). `--unpack` leaves the
machine alone even for root: the right way for a package with a service, which installing starts.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import toolbox
from toolbox import FetchError, say

STATUS = pathlib.Path("/var/lib/dpkg/status")
# Users without root often lack the sbin folders, where Debian puts servers.
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"


def command(package: str, name: str | None = None, unpack: bool = False) -> pathlib.Path:
    """The path of the command `name` (default: the package's name) of a Debian package."""
    name = name or package
    found = _on_path(name)
    if found:
        return found
    if not shutil.which("apt-get"):
        raise FetchError(f"there is no {name} on PATH, and no apt-get to get {package} with")
    with toolbox.only_one("debian"):
        if os.geteuid() == 0 and not unpack:
            _install(package)
            found = _on_path(name)
            if not found:
                raise FetchError(f"the Debian package {package} is installed but has no {name}")
            return found
        wrapper = toolbox.folder() / "debian" / "bin" / name
        if not wrapper.exists():
            _unpack(package)
            _wrap(name, package, wrapper)
        return wrapper


def file(package: str, pattern: str) -> pathlib.Path:
    """A file of a Debian package, found by a pattern, unpacked unless it is there already."""
    root = toolbox.folder() / "debian" / "root"
    if not shutil.which("apt-get"):
        raise FetchError(f"there is no apt-get to get {package} with")
    with toolbox.only_one("debian"):
        if not any(root.glob(pattern)):
            _unpack(package)
    found = sorted(root.glob(pattern))
    if not found:
        raise FetchError(f"the Debian package {package} has no {pattern}")
    return found[-1]


def _on_path(name: str) -> pathlib.Path | None:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + SBIN)
    return pathlib.Path(found) if found else None


def run(args: list[str], what: str, folder: pathlib.Path | None = None,
        env: dict[str, str] | None = None) -> None:
    """Runs a command quietly; of its words only the last error line reaches the person."""
    env = os.environ if env is None else env
    try:
        done = subprocess.run(
            args, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            cwd=folder, env={**env, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise FetchError(f"{what}: {args[0]} does not run ({error.strerror})") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = [line for line in lines if line.lower().startswith(("e:", "error"))]
        raise FetchError(f"{what}: {words[0] if words else (lines or ['no reason'])[-1]}")


def _install(package: str) -> None:
    say(f"{package}: apt-get install")
    install = ["apt-get", "install", "-y", "--no-install-recommends",
               "-o", "DPkg::Lock::Timeout=300", package]
    try:
        run(install, f"apt-get install {package}")
    except FetchError:
        # A fresh machine has no package lists, an old one has stale ones.
        run(["apt-get", "update"], "apt-get update")
        run(install, f"apt-get install {package}")


def _unpack(package: str) -> None:
    """Downloads the package and what it needs beyond what is installed, and unpacks them all."""
    place = toolbox.folder() / "debian"
    say(f"{package}: unpacking the Debian package and what it needs into {place}")
    (place / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    archives = place / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    (archives / "partial").mkdir(parents=True)
    _write_status(package, place / "status")
    # The machine's sources and status, but our own lists and archives: nothing here needs root.
    options = [
        "-o", f"Dir::State::status={place / 'status'}",
        "-o", f"Dir::State::lists={place / 'lists'}",
        "-o", f"Dir::Cache::archives={archives}",
        "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
        "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=",
    ]
    update = ["apt-get", *options, "update"]
    download = ["apt-get", *options, "install", "-y", "--no-install-recommends",
                "--download-only", package]
    fresh = not any((place / "lists").glob("*Packages*"))
    if fresh:
        run(update, "apt-get update into the tools folder")
    try:
        run(download, f"apt-get download of {package}")
    except FetchError:
        if fresh:
            raise
        # Old lists name archives that the mirror has replaced.
        run(update, "apt-get update into the tools folder")
        run(download, f"apt-get download of {package}")
    found = sorted(archives.glob("*.deb"))
    if not found:
        raise FetchError(f"apt-get download of {package} brought no archive")
    for archive in found:
        run(["dpkg", "-x", str(archive), str(place / "root")], f"dpkg -x {archive.name}")
    shutil.rmtree(archives)


def _write_status(package: str, to: pathlib.Path) -> None:
    """The machine's list of installed packages without `package`, whose command is not there."""
    try:
        entries = STATUS.read_text(encoding="utf-8", errors="replace").split("\n\n")
    except OSError as error:
        raise FetchError(f"cannot read {STATUS}: {error.strerror}") from error
    kept = [entry for entry in entries if not entry.startswith(f"Package: {package}\n")]
    to.write_text("\n\n".join(kept), encoding="utf-8")


def _wrap(name: str, package: str, wrapper: pathlib.Path) -> None:
    root = toolbox.folder() / "debian" / "root"
    folders = [root / part for part in ("usr/bin", "usr/sbin", "bin", "sbin")]
    program = next((folder / name for folder in folders if (folder / name).exists()), None)
    if program is None:
        raise FetchError(f"the Debian package {package} has no command {name}")
    libraries = {lib.parent for top in ("lib", "usr/lib") for lib in (root / top).rglob("lib*.so*")}
    search = ":".join(str(folder) for folder in sorted(libraries))
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    partial = wrapper.with_name(f"{name}.part")
    # `exec`: the process id that the caller knows is the program's own.
    partial.write_text(
        "#!/bin/sh\n"
        f"export LD_LIBRARY_PATH={shlex.quote(search)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n"
        f'exec {shlex.quote(str(program))} "$@"\n',
        encoding="utf-8",
    )
    partial.chmod(0o755)
    partial.rename(wrapper)


def main() -> int:
    """The command line; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unpack", action="store_true", help="never install on the machine")
    parser.add_argument("package", nargs="+", metavar="PACKAGE[:COMMAND]")
    args = parser.parse_args()
    try:
        for item in args.package:
            package, _, name = item.partition(":")
            print(command(package, name or None, args.unpack))
    except FetchError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

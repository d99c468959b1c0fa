"""Programs that only Debian's unstable suite has, unpacked; nothing is installed."""

import pathlib
import re
import shutil

import debian
import toolbox
from toolbox import FetchError, say

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = pathlib.Path("/etc/apt")


def unpack(package: str, member: str) -> pathlib.Path:
    """The file `member` of a package, downloaded once."""
    place = toolbox.folder() / "sid"
    wanted = place / package / member
    with toolbox.only_one("sid"):
        if not wanted.exists():
            _download(package, place)
    if not wanted.exists():
        raise FetchError(f"the Debian package {package} has no {member}")
    return wanted


def _download(package: str, place: pathlib.Path) -> None:
    say(f"{package}: unpacking the package of Debian sid into {place / package}")
    apt = update(package, place)
    archives = place / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir()
    debian.run([*apt, "download", package], f"apt-get download of {package}", folder=archives)
    for archive in sorted(archives.glob("*.deb")):
        debian.run(["dpkg", "-x", str(archive), str(place / package)], f"dpkg -x {archive.name}")
    shutil.rmtree(archives)


def update(wanted: str, place: pathlib.Path) -> list[str]:
    """An apt-get that knows sid alone and lives in this folder, its lists fetched just now."""
    if not shutil.which("apt-get") or not KEYRING.exists():
        raise FetchError(f"{wanted} is taken from Debian, and this machine is none")
    for folder in (place / "lists/partial", place / "cache/archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "status").touch()
    (place / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} sid main\n")
    # Neither the machine's suites nor its installed packages: both would disturb a newer suite.
    apt = [
        "apt-get",
        "-o", f"Dir::Etc::sourcelist={place / 'sources.list'}",
        "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::Etc::preferencesparts=/dev/null",
        "-o", f"Dir::State::status={place / 'status'}",
        "-o", f"Dir::State::lists={place / 'lists'}",
        "-o", f"Dir::Cache={place / 'cache'}",
        # A mirror may stand still for weeks. What it has is signed all the same.
        "-o", "Acquire::Check-Valid-Until=false",
        "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=",
    ]
    debian.run([*apt, "update"], "apt-get update of Debian sid")
    return apt


def mirror() -> str:
    """Where this machine gets Debian from, by its own sources."""
    files = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith(("deb ", "URIs:")):
                found = re.search(r"https?://\S*/debian/?(?=\s|$)", line)
                if found:
                    return found.group(0)
    return "http://deb.debian.org/debian"

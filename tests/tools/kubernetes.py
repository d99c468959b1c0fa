"""The half of a real Kubernetes API server that serves custom resources, built from Debian's sources.

No package holds an API server, but Debian sid has the Kubernetes libraries as Go sources, and with
them `k8s.io/apiextensions-apiserver` builds in a few minutes, started by `apiserver.go` beside
this file; no Go module is downloaded.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import debian
import sid
import toolbox
from toolbox import FetchError, say

SERVER = "apiserver"
COMMANDS = ["etcd", "kubectl"]
LIBRARY = "golang-k8s-apiextensions-apiserver-dev"
PACKAGES = [LIBRARY, "etcd-server", "kubectl"]
# A library does not depend on its compiler: this one, or what Debian takes by default.
COMPILERS = ["golang-1.27-go", "golang-go"]
# Archives, sources and the build's own cache, all gone when it is through.
ROOM_BYTES = 6 * 1000**3


def fetch() -> pathlib.Path:
    """The folder with the API server, etcd and kubectl: what KUBERNETES names, else built once."""
    named = os.environ.get("KUBERNETES")
    if named:
        return pathlib.Path(named)
    place = toolbox.folder() / "kubernetes"
    with toolbox.only_one("kubernetes"):
        if not all((place / name).exists() for name in [SERVER, *COMMANDS]):
            _make(place)
    return place


def _make(place: pathlib.Path) -> None:
    work = place.with_name("kubernetes-build")
    shutil.rmtree(work, ignore_errors=True)
    free = shutil.disk_usage(place.parent).free
    if free < ROOM_BYTES:
        raise FetchError(f"{free / 1e9:.1f} GB free, the build needs {ROOM_BYTES / 1e9:.0f} GB")
    try:
        _build(work, _unpack(work))
        place.mkdir(exist_ok=True)
        for name in COMMANDS:
            shutil.move(work / "root/usr/bin" / name, place / name)
        shutil.move(work / SERVER, place / SERVER)
        say(f"kubernetes: {SERVER}, {' and '.join(COMMANDS)} are in {place}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(work: pathlib.Path) -> str:
    """Downloads the packages and all they need, unpacks what is wanted of them, and tells the
    version of Kubernetes that they are of."""
    say("kubernetes: fetching the sources from Debian sid (0.5 GB, once)")
    (work / "root").mkdir(parents=True)
    apt = sid.update("the API server's source", work)
    install = [*apt, "install", "--no-install-recommends", "-y", "--download-only", *PACKAGES]
    try:
        debian.run([*install, COMPILERS[0]], f"apt-get download of {COMPILERS[0]}")
    except FetchError:
        debian.run([*install, COMPILERS[1]], f"apt-get download of {COMPILERS[1]}")
    version = "0.0.0"
    for archive in sorted((work / "cache/archives").glob("*.deb")):
        if archive.name.startswith(f"{LIBRARY}_"):
            version = archive.name.split("_")[1].split("-")[0]
        if archive.name.startswith(("golang-", "etcd-server", "kubectl")):
            debian.run(["dpkg", "-x", str(archive), str(work / "root")], f"dpkg -x {archive.name}")
        archive.unlink()
    # The libraries of Kubernetes 1.36.4 are 0.36.4.
    return "v1" + version.removeprefix("0")


def _build(work: pathlib.Path, version: str) -> None:
    say(f"kubernetes: building {SERVER} (1 to 4 minutes, once)")
    root = work / "root/usr"
    compilers = sorted((root / "lib").glob("go-1.*"))
    if not compilers:
        raise FetchError("the archives of Debian sid hold no Go compiler")
    env = {
        "PATH": os.environ["PATH"], "HOME": str(work), "GOROOT": str(compilers[-1]),
        "GOPATH": str(root / "share/gocode"), "GOCACHE": str(work / "go-cache"),
        # The sources as they are in the folder, and nothing from anywhere else.
        "GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0",
    }
    build = [
        str(compilers[-1] / "bin/go"), "build", "-trimpath",
        f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}",
        "-o", str(work / SERVER), str(pathlib.Path(__file__).with_name("apiserver.go")),
    ]
    done = subprocess.run(build, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if done.returncode != 0:
        raise FetchError(f"the build of {SERVER} failed, Go's own words are above")

"""The Docker engine of this machine: whether there is one, and commands to it."""

import http.client
import json
import os
import shutil
import socket
import subprocess

# Building from source on two busy cores takes minutes.
LIMIT_S = 20 * 60
SOCKET = "/var/run/docker.sock"


class DockerError(Exception):
    """A command failed; the text says which, and its last words."""


def missing() -> str | None:
    """Why there is no engine to talk to; `None` when there is one."""
    if not shutil.which("docker"):
        return "there is no docker command"
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )
    if asked.returncode == 0:
        return None
    words = " ".join(asked.stderr.split())
    return f"no Docker engine answers: {words[:200] or 'no reason given'}"


def engine_version() -> str:
    """The engine's own, like `20.10.24`."""
    return run("docker", "version", "--format", "{{.Server.Version}}").split("+")[0]


def run(*args: str, env: dict[str, str] | None = None, source=None, folder=None,
        limit_s: int = LIMIT_S) -> str:
    """Runs a command to its end; what it printed. `source`, text or a file, is its standard input."""
    given = {"input": source} if isinstance(source, str) else {"stdin": source or subprocess.DEVNULL}
    try:
        done = subprocess.run(
            args, **given, capture_output=True, text=True, errors="replace",
            timeout=limit_s, cwd=folder, env={**os.environ, **(env or {})},
        )
    except OSError as error:
        raise DockerError(f"{args[0]} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DockerError(f"`{' '.join(args)}` took longer than {limit_s} s") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        tail = "\n".join(lines[-25:])
        raise DockerError(f"`{' '.join(args)}` ended with {done.returncode}:\n{tail}")
    return done.stdout.strip()


def image_id(name: str) -> str | None:
    """The id of the image that has this name here."""
    try:
        return run("docker", "image", "inspect", "--format", "{{.Id}}", name)
    except DockerError:
        return None


def nameless() -> set[str]:
    """The ids of the images that have lost their names here, as a build that is repeated does it."""
    return set(run("docker", "images", "--quiet", "--no-trunc", "--filter", "dangling=true").split())


def remove_image(name: str) -> None:
    """Takes the name off its image, and the image away when it has no other."""
    if image_id(name):
        run("docker", "rmi", "--force", name)


def caches() -> set[str]:
    """The ids of what BuildKit keeps of builds here."""
    # Asked of the engine itself: what the command prints of it differs from version to version.
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(SOCKET)
        connection.request("GET", "/system/df")
        kept = json.load(connection.getresponse()).get("BuildCache") or []
    except (OSError, ValueError):
        return set()  # another engine than this machine's own, whose cache nobody wants to tidy
    finally:
        connection.close()
    return {record["ID"] for record in kept}


def remove_caches(ids: set[str]) -> None:
    """Lets BuildKit forget these, as far as nothing else is built on them."""
    left = ids & caches()
    # It keeps what another one is built on, so the last ones go first.
    while left:
        for cache in sorted(left):
            run("docker", "builder", "prune", "--all", "--force", "--filter", f"id={cache}")
        before, left = left, ids & caches()
        if left == before:
            return

#!/usr/bin/env python3
"""A fresh machine: do README's commands work with nothing but what README says is needed?

    python3 tests/tools/fresh.py [COMMAND...]

A container with rustup's toolchain, a C compiler, make and Python 3 (the public Rust image, or its
stand-in), a user without rights, and a clean clone of what is committed. Without commands: README's.
"""

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import docker
import stand_ins
from docker import DockerError
from toolbox import PROJECT, FetchError, say

COMMANDS = ["make demo", "make test"]
NAME = "pointsman-fresh"
DOCKERFILE = f"""FROM {stand_ins.RUST}
RUN useradd --create-home person
COPY --chown=person:person pointsman /home/person/pointsman
USER person
WORKDIR /home/person/pointsman
"""


def machine() -> str:
    """The id of a new container that waits for commands."""
    with tempfile.TemporaryDirectory(prefix="pointsman-fresh-") as folder:
        clone = pathlib.Path(folder) / "pointsman"
        docker.run("git", "clone", "--quiet", str(PROJECT), str(clone))
        stand_ins.build(NAME, DOCKERFILE, {"pointsman": clone})
    return docker.run("docker", "run", "--detach", NAME, "sleep", "infinity")


def main(commands: list[str]) -> int:
    """The command line; see the top of the file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    why = docker.missing()
    if why:
        say(f"fresh: {why}")
        return 1
    images = stand_ins.Images()
    container = None
    lines = []
    try:
        images.provide(stand_ins.RUST)
        container = machine()
        for command in commands or COMMANDS:
            started = time.monotonic()
            code = subprocess.run(["docker", "exec", container, "sh", "-c", command]).returncode
            word = "ok" if code == 0 else f"ended with {code}"
            lines.append(f"fresh: {command}: {word}, {time.monotonic() - started:.0f} s")
            if code != 0:
                return 1
    except (DockerError, FetchError) as error:
        say(str(error))
        return 1
    finally:
        print("\n".join(lines), flush=True)
        if container:
            docker.run("docker", "rm", "--force", container)
        docker.remove_image(NAME)
        images.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

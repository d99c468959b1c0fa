#!/usr/bin/env python3
"""Runs a command with COMPOSE, the words that call Docker Compose, in its environment.

    python3 tests/tools/compose.py [--stand-ins] [--keep] COMMAND...

`--stand-ins` first makes base images that the engine lacks, and afterwards takes away whatever was built
on them. `--keep` leaves the images. Without an engine the command runs too: it says so itself.
"""

import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys

import compiled
import docker
import sid
import stand_ins
from docker import DockerError
from toolbox import FetchError, say

# Where Debian's package has the plugin, which runs by itself too.
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
# A build takes these names over; whoever had images of them gets them back.
BUILT = ("pointsman", "pointsman-envoy", "pointsman-module")


def find() -> str:
    """This machine's plugin, else Debian sid's."""
    try:
        printed = docker.run("docker", "compose", "version", "--short")
    except DockerError:
        printed = ""
    # Compose 1 is out of life.
    if re.match(r"v?[2-9]", printed):
        return "docker compose"
    return str(sid.unpack("docker-compose", PLUGIN))


def run(command: list[str]) -> int:
    """Runs it to its end; when we are told to end, it has time to tidy up."""
    process = subprocess.Popen(command, env={**os.environ, "COMPOSE": find()})
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def run_on_stand_ins(command: list[str], keep: bool) -> int:
    """The same on base images made here, where the engine has none."""
    caches, nameless = docker.caches(), docker.nameless()
    images = stand_ins.Images()
    if not keep:
        images.keep(*BUILT)
    try:
        # Most of either is downloading and unpacking.
        with concurrent.futures.ThreadPoolExecutor() as both:
            lent = both.submit(compiled.lend, images)
            images.provide(stand_ins.ENVOY, stand_ins.REDIS)
            lent.result()
        return run(command)
    finally:
        images.restore()
        if not keep:
            say("taking away what was made")
            images.remove()
            for image in docker.nameless() - nameless:
                docker.remove_image(image)
            docker.remove_caches(docker.caches() - caches)


def main() -> int:
    """The command line; see the top of the file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stand-ins", action="store_true", help="make base images")
    parser.add_argument("--keep", action="store_true", help="leave the images")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if docker.missing():
        return subprocess.run(args.command).returncode
    try:
        if args.stand_ins:
            return run_on_stand_ins(args.command, args.keep)
        return run(args.command)
    except (DockerError, FetchError) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())

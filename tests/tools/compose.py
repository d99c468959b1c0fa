"""Docker Compose over envoy/docker-compose.yaml, and what runs by it."""

import dataclasses
import json
import re
import subprocess
import time
import typing
import urllib.error
import urllib.request

import docker
import sid
from docker import DockerError
from toolbox import PROJECT, FetchError

FILE = PROJECT / "envoy" / "docker-compose.yaml"
# Where Debian's package has the plugin, which runs by itself too.
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
ADMIN = "http://127.0.0.1:18080"
ADMIN_TOKEN = "demo-admin-token"
# How long any single thing may take on a busy machine.
DEADLINE_S = 60.0


@dataclasses.dataclass(frozen=True)
class Compose:
    """The words that call it, and its version."""

    command: tuple[str, ...]
    version: str

    def build(self, image: str, target: str) -> None:
        """Builds one target of our Dockerfile: Compose has BuildKit also where `docker build` has not."""
        service = {"image": image, "build": {
            "context": str(PROJECT), "dockerfile": "envoy/Dockerfile", "target": target,
        }}
        file = json.dumps({"name": image, "services": {target: service}})
        docker.run(*self.command, "--file", "-", "build", source=file)


def find() -> Compose:
    """This machine's plugin, else Debian sid's."""
    command: tuple[str, ...] = ("docker", "compose")
    version = _version(command)
    if not version:
        command = (str(sid.unpack("docker-compose", PLUGIN)),)
        version = _version(command)
    if not version:
        raise FetchError(f"{command[0]} does not say its version")
    return Compose(command, version)


def _version(command: tuple[str, ...]) -> str | None:
    try:
        printed = docker.run(*command, "version", "--short")
    except DockerError:
        return None
    found = re.search(r"\d+\.\d+\.\d+", printed)
    return found.group(0) if found else None


class Project:
    """The services of the file, under a name of their own."""

    def __init__(self, compose: Compose, name: str) -> None:
        self.compose = compose
        self.name = name

    def call(self, *args: str) -> str:
        """Runs a command of Compose to its end."""
        start = [*self.compose.command, "--project-name", self.name, "--file", str(FILE)]
        return docker.run(*start, *args)

    def up(self, *args: str) -> None:
        """Builds and starts everything, and waits until it is well."""
        self.call("up", "--detach", "--build", *args)
        for service in ("edge-1", "edge-2", "orders-1", "orders-2", "orders-3"):
            eventually(f"{service} to be healthy", lambda it=service: self.expect_healthy(it))

    def down(self) -> None:
        """Takes everything away that `up` made, but for the images."""
        self.call("down", "--volumes", "--remove-orphans")

    def container(self, service: str) -> str:
        """The id of a service's container, also of one that has ended."""
        found = self.call("ps", "--all", "--quiet", service).splitlines()
        if len(found) != 1:
            raise DockerError(f"{service} has {len(found)} containers")
        return found[0]

    def expect_healthy(self, service: str) -> None:
        """Fails unless the service's own healthcheck is content."""
        container = self.container(service)
        shown = docker.run("docker", "inspect", "--format", "{{.State.Health.Status}}", container)
        expect(shown == "healthy", f"it is {shown}")

    def stop(self, service: str) -> None:
        """Stops a service in good order."""
        docker.run("docker", "stop", self.container(service))

    def kill(self, service: str) -> None:
        """Kills a service."""
        docker.run("docker", "kill", self.container(service))

    def start(self, service: str) -> None:
        """Starts a service that was stopped or killed."""
        docker.run("docker", "start", self.container(service))

    def cut(self, service: str, network: str) -> None:
        """Takes a service off a network."""
        docker.run("docker", "network", "disconnect", self.network(network),
                   self.container(service))

    def join(self, service: str, network: str) -> None:
        """Puts it back."""
        docker.run("docker", "network", "connect", "--alias", service, self.network(network),
                   self.container(service))

    def network(self, name: str) -> str:
        """A network's full name."""
        return f"{self.name}_{name}"

    def redis(self, *words: str) -> str:
        """Asks Redis."""
        return docker.run("docker", "exec", self.container("redis"), "redis-cli", *words)

    def pointsman(self, *words: str, document: str = "") -> str:
        """Runs the command line in the sidecar's container, which has its address and token."""
        return docker.run("docker", "exec", "--interactive", self.container("sidecar"),
                          "pointsman", *words, source=document)

    def logs(self) -> str:
        """The last words of every service."""
        return self.call("logs", "--tail", "8")


def admin(path: str, token: str | None = ADMIN_TOKEN) -> tuple[int, str]:
    """GET on the sidecar's admin API where it is published."""
    return get(ADMIN + path, {"authorization": f"Bearer {token}"} if token else {})


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of a GET; 0 and the reason when nobody answers."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def status() -> dict:
    """`/status` of the sidecar."""
    code, text = admin("/status")
    expect(code == 200, f"/status: {code} {text}")
    return json.loads(text)


class Unmet(Exception):
    """Something is not (yet) as it should be; the text says what is instead."""


def expect(condition: bool, otherwise: str) -> None:
    """Says what is wrong, unless the condition holds."""
    if not condition:
        raise Unmet(otherwise)


T = typing.TypeVar("T")


def eventually(what: str, check: typing.Callable[[], T], within_s: float = DEADLINE_S) -> T:
    """Asks until the check is content, and no longer than the deadline."""
    end = time.monotonic() + within_s
    while True:
        try:
            return check()
        except (Unmet, DockerError, subprocess.SubprocessError) as error:
            if time.monotonic() > end:
                raise Unmet(f"waited {within_s:.0f} s for {what}: {error}") from error
        time.sleep(0.1)

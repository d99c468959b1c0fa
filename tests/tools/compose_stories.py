#!/usr/bin/env python3
"""The images and envoy/docker-compose.yaml, unchanged, on a real Docker engine.

    [REQUIRE=docker] python3 tests/tools/compose_stories.py

Public images that the engine lacks are replaced by stand-ins (stand_ins.py). Everything that was
made is taken away at the end. Prints one line per story, in the words of `cargo test`, and what was
counted.
"""

import json
import os
import signal
import sys
import time
import typing

import compiled
import compose
import docker
import stand_ins
import toolbox
from compose import Compose, Project, Unmet, eventually, expect
from compose_load import EDGES, Load
from docker import DockerError
from toolbox import FetchError, say

BACKENDS = ("orders-1", "orders-2", "orders-3")
SIDECAR = "pointsman"
IMAGES = (SIDECAR, "pointsman-envoy")
MODULE = "pointsman-module"
OVERRIDES = "pointsman:override:orders"
# Each image, what it stands on, and how much it may add: a program of 20 MB with its module and
# certificates, the module, the module and a bootstrap.
SIZES = (
    (SIDECAR, stand_ins.BASE, 25),
    (MODULE, None, 0.5),
    ("pointsman-envoy", stand_ins.ENVOY, 0.5),
)


class Stories:
    """What is told of the file; each method is one story, and builds on those before it."""

    def __init__(self, tool: Compose) -> None:
        self.project = Project(tool, f"pointsman-test-{os.getpid()}")

    def starts_from_a_clean_clone(self) -> str:
        """`up --build` is all; the seed has written the registry, both Envoys have it."""
        started = time.monotonic()
        self.project.up()
        took_s = time.monotonic() - started
        self.expect_served()
        return f"up in {took_s:.0f} s"

    def expect_served(self) -> None:
        """Both Envoys are connected and run the newest revision on every worker."""

        def check() -> None:
            now = compose.status()
            proxies = {proxy["node"]: proxy for proxy in now["proxies"]}
            expect(set(EDGES) <= set(proxies), f"proxies: {sorted(proxies)}")
            for edge in EDGES:
                revisions = proxies[edge]["revisions"]
                # None at all before the first request: only workers that serve report.
                newest = now["registry"]["revision"]
                expect(set(revisions or []) <= {newest}, f"{edge} runs {revisions}, not {newest}")
                expect(bool(proxies[edge]["streams"]), f"{edge} is not connected")

        eventually("both Envoys to run the newest revision", check)

    def routes_to_every_backend_through_both(self) -> str:
        """Each Envoy uses each backend."""
        with Load(self.project) as load:
            load.more(300)
        for edge in EDGES:
            for backend in BACKENDS:
                expect(load.by(backend, edge) > 30, f"{edge}: {load.by(backend, edge)} {backend}")
        return load.clean()

    def a_change_in_redis_moves_traffic(self) -> str:
        """One backend is drained and comes back, then two are cordoned and come back."""
        with Load(self.project) as load:
            self.project.redis("HSET", OVERRIDES, "orders-2", "Draining")
            load.spares("orders-2")
            self.project.redis("HDEL", OVERRIDES, "orders-2")
            load.serves("orders-2")
            self.project.redis("HSET", OVERRIDES, "orders-1", "Cordoned", "orders-3", "Cordoned")
            load.spares("orders-1")
            load.spares("orders-3")
            self.project.redis("DEL", OVERRIDES)
            load.serves("orders-1")
            load.serves("orders-3")
        return load.clean()

    def a_document_applied_by_the_sidecars_own_image_moves_traffic(self) -> str:
        """`pointsman apply` through the admin API: one backend without weight, and back again."""
        document = pointsman(self.project, "get", "cluster", "orders", "-o", "json")
        changed = json.loads(document)
        for backend in changed["backends"]:
            backend["weight"] = 0 if backend["id"] == "orders-3" else 100
        with Load(self.project) as load:
            try:
                pointsman(self.project, "apply", "-f", "-", document=json.dumps(changed), token="wrong")
                raise Unmet("a wrong token was good enough to apply")
            except DockerError:
                load.serves("orders-3")
            pointsman(self.project, "apply", "-f", "-", document=json.dumps(changed))
            load.spares("orders-3")
            pointsman(self.project, "apply", "-f", "-", document=document)
            load.serves("orders-3")
        return load.clean()

    def a_backend_that_stops_costs_nothing(self) -> str:
        """Stopped, killed and started again under load."""
        with Load(self.project) as load:
            self.project.stop("orders-1")
            load.more(200)
            self.project.start("orders-1")
            load.serves("orders-1")
            self.project.kill("orders-3")
            load.more(200)
            self.project.start("orders-3")
            load.serves("orders-3")
        return load.clean()

    def redis_that_stops_costs_nothing(self) -> str:
        """The last registry serves; what is written after the restart arrives."""
        with Load(self.project) as load:
            self.project.stop("redis")
            eventually("/health to say 503", lambda: expect_code("/health", 503))
            load.more(200)
            expect_code("/readyz", 200)
            self.project.start("redis")
            eventually("/health to say 200", lambda: expect_code("/health", 200))
            self.project.redis("HSET", OVERRIDES, "orders-2", "Draining")
            load.spares("orders-2")
            self.project.redis("DEL", OVERRIDES)
            load.serves("orders-2")
        return load.clean()

    def a_sidecar_that_is_killed_costs_nothing(self) -> str:
        """A backend stops while it is away, and it comes back to both Envoys."""
        with Load(self.project) as load:
            self.project.kill("sidecar")
            load.more(200)
            self.project.stop("orders-2")
            load.more(200)
            self.project.start("orders-2")
            self.project.start("sidecar")
            self.expect_served()
            load.serves("orders-2")
        return load.clean()

    def an_envoy_cut_off_from_what_steers_it_serves_on(self) -> str:
        """It loses no request, and has the change when it is back."""
        with Load(self.project) as load:
            self.project.cut("edge-2", "control")
            load.more(100)
            self.project.redis("HSET", OVERRIDES, "orders-3", "Draining")
            load.spares("orders-3", "edge-1")
            # Whether it hears of the change before is open: the sidecar, which probes the backends, has a
            # name in the other network too, and Envoy asks for its address every second.
            self.project.join("edge-2", "control")
            load.spares("orders-3", "edge-2")
            self.project.redis("DEL", OVERRIDES)
            load.serves("orders-3", "edge-1")
            load.serves("orders-3", "edge-2")
        self.expect_served()
        return load.clean()

    def an_envoy_cut_off_from_its_clients_comes_back(self) -> str:
        """The other one does not notice."""
        with Load(self.project) as load:
            self.project.cut("edge-2", "traffic")
            load.more(200, "edge-1")
            self.project.join("edge-2", "traffic")
            load.more(50, "edge-2")
            load.serves("orders-1", "edge-2")
        lost = load.errors("edge-2")
        return f"edge-1: {load.clean('edge-1')}; edge-2, cut off: {lost} errors"

    def shows_its_figures_and_no_more(self) -> str:
        """Each Envoy publishes two pages of its admin interface."""
        for port in (9902, 9903):
            base = f"http://127.0.0.1:{port}"
            code, text = compose.get(f"{base}/stats/prometheus")
            series = sum(line.startswith("pointsman_") for line in text.splitlines())
            expect(code == 200 and series > 5, f"{port}: {code}, {series} series of the filter")
            for path, wanted in (("/ready", 200), ("/stats", 404), ("/quitquitquit", 404)):
                code, text = compose.get(base + path)
                expect(code == wanted, f"{port}{path}: {code} {text}")
        return "/ready and /stats/prometheus answer, nothing else does"

    def asks_for_its_tokens(self) -> str:
        """Without them nothing is read, and no Envoy is served."""
        for path in ("/status", "/metrics"):
            for token in (None, "wrong"):
                code, text = compose.admin(path, token)
                expect(code == 401, f"{path}: {code} {text}")
        code = docker.run(
            "docker", "run", "--rm", "--network", self.project.network("control"), stand_ins.RUST,
            "python3", "-c",
            "import http.client as h; c = h.HTTPConnection('sidecar:18000'); "
            "c.request('POST', '/v1/exchange', '{}'); print(c.getresponse().status)",
        )
        expect(code == "401", f"the exchange without a token: {code}")
        return "/status, /metrics and the exchange say 401"

    def publishes_on_loopback_and_gives_no_rights(self) -> str:
        """Every published port, and how the sidecar runs."""
        published = []
        for service in ("redis", "sidecar", *EDGES, *BACKENDS):
            container = self.project.container(service)
            hosts = docker.run(
                "docker", "inspect", "--format",
                "{{range $p, $b := .NetworkSettings.Ports}}{{range $b}}{{.HostIp}} {{end}}{{end}}",
                container,
            ).split()
            published += hosts
            expect(set(hosts) <= {"127.0.0.1"}, f"{service} is published on {hosts}")
        expect(len(published) == 5, f"{len(published)} ports are published")
        sidecar = self.project.container("sidecar")
        form = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}"
        shown = docker.run("docker", "inspect", "--format", form, sidecar)
        expect(shown == "true [ALL] 65532:65532", shown)
        return "5 ports, all on 127.0.0.1"


def pointsman(project: Project, *words: str, document: str = "",
              token: str = compose.ADMIN_TOKEN) -> str:
    """Runs the command line in a container of its own beside the sidecar."""
    return docker.run(
        "docker", "run", "--rm", "--interactive", "--network", project.network("control"),
        "--env", "POINTSMAN_ADMIN_ADDRESS=sidecar:18080", "--env", f"POINTSMAN_ADMIN_TOKEN={token}",
        SIDECAR, *words, source=document,
    )


def expect_code(path: str, wanted: int) -> None:
    """Fails unless the admin API answers with this status."""
    code, text = compose.admin(path)
    expect(code == wanted, f"{path}: {code} {text}")


def images_are_small_and_need_no_user(tool: Compose) -> str:
    """Any uid, a read-only root, a healthcheck of its own; the module's image is one layer."""
    docker.run("docker", "run", "--rm", "--read-only", "--user", "4711:0", "--cap-drop", "ALL",
               "pointsman", "--version")
    check = docker.run("docker", "inspect", "--format", "{{.Config.Healthcheck.Test}}", "pointsman")
    expect(check == "[CMD pointsman health]", check)
    tool.build(MODULE, "module")
    layers = docker.run("docker", "inspect", "--format", "{{len .RootFS.Layers}}", MODULE)
    expect(layers == "1", f"{layers} layers")
    container = docker.run("docker", "create", MODULE, "none")
    try:
        paths = docker.run("sh", "-c", f"docker export {container} | tar -t").split()
    finally:
        docker.run("docker", "rm", container)
    # What an engine adds to every container, at its creation.
    added = (".dockerenv", "dev", "etc", "proc", "sys")
    held = [path for path in paths if not path.startswith(added)]
    expect(held == ["plugin.wasm"], f"it holds {held}")
    return expect_small()


def size_mb(name: str) -> float:
    """An image's size."""
    return int(docker.run("docker", "image", "inspect", "--format", "{{.Size}}", name)) / 1e6


def expect_small() -> str:
    """What each image adds to the one that it stands on is within its limit; all of it in words."""
    shown = []
    for name, base, limit_mb in SIZES:
        adds = size_mb(name) - (size_mb(base) if base else 0)
        expect(adds <= limit_mb, f"{name} adds {adds:.1f} MB to {base}, the limit is {limit_mb} MB")
        shown.append(f"{name} {adds:.1f} MB" + (f" upon {base}" if base else ""))
    return ", ".join(shown)


class Report:
    """Prints the outcome of each story as `cargo test` would."""

    def __init__(self) -> None:
        self.passed = self.failed = self.ignored = 0

    def tell(self, name: str, story: typing.Callable[[], str], project: Project | None) -> bool:
        """Runs a story; whether it came out well."""
        started = time.monotonic()
        try:
            words = story()
        except (Unmet, DockerError, FetchError, OSError) as error:
            self.failed += 1
            print(f"  {error}\n{project.logs() if project else ''}", flush=True)
            print(f"test {name} ... FAILED", flush=True)
            return False
        self.passed += 1
        print(f"  {words} [{time.monotonic() - started:.0f} s]", flush=True)
        print(f"test {name} ... ok", flush=True)
        return True

    def skip(self, name: str, why: str) -> None:
        """Says that something could not be told here: a failure where an engine is required."""
        if "docker" in toolbox.required():
            self.failed += 1
            print(f"  {why}\ntest {name} ... FAILED", flush=True)
            return
        self.ignored += 1
        print(f"test {name} ... ignored, {why}", flush=True)

    def end(self) -> int:
        """The closing line; the exit code."""
        word = "FAILED" if self.failed else "ok"
        print(f"test result: {word}. {self.passed} passed; {self.failed} failed; "
              f"{self.ignored} ignored;", flush=True)
        return 1 if self.failed else 0


def tell_all(report: Report, tool: Compose) -> None:
    """Every story; when the services do not start, none of the others can be told."""
    print(f"runs on Docker Compose {tool.version}", flush=True)
    stories = Stories(tool)
    names = [name for name, kind in vars(Stories).items()
             if callable(kind) and not name.startswith(("_", "expect_"))]
    try:
        for name in names:
            story = getattr(stories, name)
            well = report.tell(f"compose::{name}", story, stories.project)
            if not well and name == names[0]:
                break
    finally:
        stories.project.down()
    report.tell("compose::images_are_small_and_need_no_user",
                lambda: images_are_small_and_need_no_user(tool), None)


def main() -> int:
    """The command line; see the top of the file."""
    # A cancelled CI run must take its containers along, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report()
    why = docker.missing()
    if why:
        report.skip("compose", why)
        return report.end()
    print(f"runs on Docker Engine {docker.engine_version()}", flush=True)
    caches, nameless = docker.caches(), docker.nameless()
    images = stand_ins.Images()
    # A build takes these names over; whoever had images of them gets them back.
    images.keep(*IMAGES, MODULE)
    try:
        compiled.lend(images)
        images.provide(stand_ins.ENVOY, stand_ins.REDIS)
        tell_all(report, compose.find())
    except (DockerError, FetchError) as error:
        report.failed += 1
        print(f"  {error}\ntest compose ... FAILED", flush=True)
    finally:
        say("taking away what was made")
        images.remove()
        for image in docker.nameless() - nameless:
            docker.remove_image(image)
        docker.remove_caches(docker.caches() - caches)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())

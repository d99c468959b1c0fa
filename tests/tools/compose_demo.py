#!/usr/bin/env python3
"""`make compose-demo`: envoy/docker-compose.yaml, told step by step; no request may fail.

KEEP=1 keeps everything running. STAND_INS=1 makes base images for an engine without a registry.
"""

import json
import os
import signal
import sys
import time

import compiled
import compose
import docker
import stand_ins
from compose import Project, Unmet, eventually, expect
from compose_load import Load, outside
from docker import DockerError
from toolbox import FetchError

NAME = "pointsman-demo"
ORDERS = ("orders-1", "orders-2", "orders-3")
KEY = "pointsman:cluster:orders"
OVERRIDES = "pointsman:override:orders"


def show(load: Load, *lines: str) -> None:
    """What the backends answered, as bars, and that nothing failed."""
    load.finish()
    for line in lines:
        print(f"   {line}")
    for backend in ORDERS:
        share = load.by(backend) * 100 // max(1, load.sent())
        print(f"   {backend}  {load.by(backend):>5}  {share:>3} %  {'#' * (share // 2)}")
    print(f"   {load.sent()} requests through two Envoys, {load.errors()} failed.", flush=True)
    load.clean()


def redis(project: Project, *words: str) -> None:
    """Changes the registry as a person would."""
    shown = " ".join(f"'{word}'" if "{" in word else word for word in words)
    print(f"   $ docker compose exec redis redis-cli {shown}", flush=True)
    project.redis(*words)


def tell(project: Project) -> None:
    """The whole story."""
    print("`docker compose` stands for `docker compose --project-name"
          f" {NAME} --file envoy/docker-compose.yaml`.\n")
    print("Building the images, starting Redis, the sidecar, two Envoys and three backends …",
          flush=True)
    started = time.monotonic()
    project.up()
    print(f"   … took {time.monotonic() - started:.0f} s.")
    spread(project)
    drain(project)
    reweight(project)
    stop_a_backend(project)
    stop_redis(project)
    look(project)


def spread(project: Project) -> None:
    """What an undisturbed system does."""
    print("\n1. Requests spread.")
    with Load(project, outside) as load:
        load.more(300)
    show(load)


def drain(project: Project) -> None:
    """One word of an operator, taken back."""
    print("\n2. An operator drains orders-2, and takes it back.")
    with Load(project, outside) as load:
        redis(project, "HSET", OVERRIDES, "orders-2", "Draining")
        started = time.monotonic()
        load.spares("orders-2")
        drained = f"{time.monotonic() - started:.1f}"
        load.more(150)
        redis(project, "HDEL", OVERRIDES, "orders-2")
        load.serves("orders-2")
    show(load, f"It was seen to be left alone within {drained} s, and serves again.")


def reweight(project: Project) -> None:
    """A new document by the sidecar's command line, and the old one by Redis's."""
    before = project.redis("GET", KEY)
    document = json.loads(before)
    for backend in document["backends"]:
        backend["weight"] = 10 if backend["id"] == "orders-3" else 100
    print("\n3. A new document: orders-3 gets a tenth of the others' weight.")
    print("   $ docker compose exec -T sidecar pointsman get cluster orders -o json > orders.json")
    print("   … with weight 10 for orders-3 and 100 for the others in orders.json:")
    print("   $ docker compose exec -T sidecar pointsman apply -f - < orders.json", flush=True)
    for line in project.pointsman("apply", "-f", "-", document=json.dumps(document)).splitlines():
        print(f"   {line}")
    eventually("the new weights on every worker", lambda: weight_served(10))
    with Load(project, outside) as load:
        load.more(300)
    show(load)
    expect(load.by("orders-3") * 4 < load.by("orders-1"), "the weight is not obeyed")
    print("\n4. The first document again, this time written straight to Redis.")
    redis(project, "SET", KEY, before)
    eventually("the old weights on every worker", lambda: weight_served(100))
    with Load(project, outside) as load:
        load.more(300)
    show(load)


def weight_served(wanted: int) -> None:
    """Fails unless every worker has a document with this weight for orders-3."""
    now = compose.status()
    weights = {it["id"]: it["weight"] for it in now["clusters"][0]["backends"]}
    expect(weights["orders-3"] == wanted, f"{weights}")
    newest = [now["registry"]["revision"]]
    expect(all(it["revisions"] == newest for it in now["proxies"]), f"{now['proxies']}")


def stop_a_backend(project: Project) -> None:
    """A backend goes away and returns."""
    print("\n5. orders-1 is stopped and started again.\n   $ docker compose stop orders-1",
          flush=True)
    with Load(project, outside) as load:
        project.stop("orders-1")
        load.more(200)
        print("   $ docker compose start orders-1", flush=True)
        project.start("orders-1")
        load.serves("orders-1")
    show(load)


def stop_redis(project: Project) -> None:
    """The store goes away and returns."""
    print("\n6. Redis is stopped and started again.\n   $ docker compose stop redis", flush=True)
    with Load(project, outside) as load:
        project.stop("redis")
        eventually("/health to say 503", lambda: health(503))
        print("   /health says 503; requests go on with the last registry.", flush=True)
        load.more(200)
        print("   $ docker compose start redis", flush=True)
        project.start("redis")
        eventually("/health to say 200", lambda: health(200))
        print("   /health says 200.", flush=True)
    show(load)


def health(wanted: int) -> None:
    """Fails unless `/health` has this status."""
    code, text = compose.admin("/health")
    expect(code == wanted, f"{code} {text}")


def look(project: Project) -> None:
    """Where to look."""
    now = compose.status()
    print("\n7. Where to look.")
    print("   $ curl -H 'authorization: Bearer demo-admin-token' http://127.0.0.1:18080/status")
    for proxy in now["proxies"]:
        print(f"   {proxy['node']}: {proxy['workers']} workers run revision"
              f" {' and '.join(proxy['revisions'])}")
    for backend in now["clusters"][0]["backends"]:
        word = "healthy" if backend["healthy"] else "unhealthy"
        print(f"   {backend['id']} {backend['address']} {backend['state']}, {word}")
    print("   and http://127.0.0.1:9902/stats/prometheus of the first Envoy, 9903 of the second.")


def main() -> int:
    """The command line; see the top of the file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    why = docker.missing()
    if why:
        print(f"The demo needs Docker: {why}", file=sys.stderr)
        return 1
    images = stand_ins.Images()
    project = None
    keep = bool(os.environ.get("KEEP"))
    try:
        if os.environ.get("STAND_INS"):
            compiled.lend(images)
            images.provide(stand_ins.ENVOY, stand_ins.REDIS)
        project = Project(compose.find(), NAME)
        tell(project)
        print("\nAll as it should be: not one request failed.")
    except (Unmet, DockerError, FetchError) as error:
        print(f"\nThe demo FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        images.restore()
        if project and not keep:
            project.down()
        if not keep:
            images.remove()
    if keep:
        print("\nEverything keeps running: http://127.0.0.1:10000/ and http://127.0.0.1:10001/")
        print(f"docker compose --project-name {NAME} --file envoy/docker-compose.yaml"
              " down --volumes   # ends it")
    return 0


if __name__ == "__main__":
    sys.exit(main())

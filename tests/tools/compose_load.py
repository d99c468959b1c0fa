"""A client that sends GETs to both Envoys, and what it has counted."""

import json
import pathlib
import subprocess
import sys
import threading

import docker
import stand_ins
from compose import Project, eventually, expect

SCRIPT = pathlib.Path(__file__).with_name("compose_client.py")
ERROR = "error: "
EDGES = ("edge-1", "edge-2")
PER_SECOND = 100


def inside(project: Project) -> tuple[list[str], list[str]]:
    """A client in a container on the network of the requests: how to run Python, and where to."""
    start = ["docker", "run", "--rm", "--interactive", "--network", project.network("traffic"),
             "--volume", f"{SCRIPT}:{SCRIPT}:ro", stand_ins.RUST, "python3"]
    return start, [f"{edge}:10000" for edge in EDGES]


def outside(_: Project) -> tuple[list[str], list[str]]:
    """A client on this machine, through the published ports."""
    return [sys.executable], ["127.0.0.1:10000", "127.0.0.1:10001"]


class Load:
    """GETs to both Envoys, for as long as the `with` lasts."""

    def __init__(self, project: Project, place=inside) -> None:
        start, targets = place(project)
        self._edges = dict(zip(targets, EDGES, strict=True))
        self._latest: dict[str, dict[str, int]] = {edge: {} for edge in EDGES}
        self._process = subprocess.Popen(
            [*start, str(SCRIPT), "4", str(PER_SECOND), *targets],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Load":
        try:
            self.more(20)
        except BaseException:
            self.finish()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.finish()

    def _read(self) -> None:
        for line in self._process.stdout:
            counts = json.loads(line)
            self._latest = {edge: counts[target] for target, edge in self._edges.items()}

    def finish(self) -> None:
        """Ends the client; what it had under way is counted too."""
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(docker.LIMIT_S)
        finally:
            self._reader.join()
            self._process.stdout.close()

    def by(self, backend: str, edge: str | None = None) -> int:
        """How many GETs a backend has answered, through one Envoy or both."""
        return sum(counts.get(backend, 0) for counts in self._of(edge))

    def sent(self, edge: str | None = None) -> int:
        """How many GETs there were."""
        return sum(sum(counts.values()) for counts in self._of(edge))

    def errors(self, edge: str | None = None) -> int:
        """How many of them had no good answer."""
        return sum(
            count for counts in self._of(edge) for word, count in counts.items()
            if word.startswith(ERROR)
        )

    def _of(self, edge: str | None) -> list[dict[str, int]]:
        latest = self._latest
        return list(latest.values()) if edge is None else [latest.get(edge, {})]

    def more(self, count: int, edge: str | None = None) -> None:
        """Waits until so many more GETs are counted, through each Envoy."""
        edges = EDGES if edge is None else (edge,)
        before = {name: self.sent(name) for name in edges}

        def check() -> None:
            for name in edges:
                expect(self._process.poll() is None, "the client has ended")
                done = self.sent(name) - before[name]
                expect(done >= count, f"{name}: {done} of {count}")

        eventually(f"{count} more GETs", check)

    def serves(self, backend: str, edge: str | None = None) -> None:
        """Waits until a backend answers again."""
        before = self.by(backend, edge)

        def check() -> None:
            expect(self.by(backend, edge) > before, f"{self._latest}")

        eventually(f"an answer of {backend}", check)

    def spares(self, backend: str, edge: str | None = None) -> None:
        """Waits until a backend gets nothing while many GETs go elsewhere."""

        def check() -> None:
            before = self.by(backend, edge)
            self.more(50, edge)
            more = self.by(backend, edge) - before
            expect(more == 0, f"it has answered {more} more")

        eventually(f"{backend} to be left alone", check)

    def clean(self, edge: str | None = None) -> str:
        """The counts, as a line for people; fails when there was an error."""
        self.finish()
        words = ", ".join(f"{word} {count}" for word, count in sorted(self._total(edge).items()))
        line = f"{self.sent(edge)} GETs, {self.errors(edge)} errors ({words})"
        expect(self.errors(edge) == 0, line)
        return line

    def _total(self, edge: str | None) -> dict[str, int]:
        total: dict[str, int] = {}
        for counts in self._of(edge):
            for word, count in counts.items():
                total[word] = total.get(word, 0) + count
        return total

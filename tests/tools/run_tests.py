#!/usr/bin/env python3
"""Runs make targets in stages and sums up what their tests did.

    [REQUIRE=docker,kubernetes] python3 tests/tools/run_tests.py 'parts|check,build' test-e2e...

A stage is one target, or lanes that run beside each other, of targets one after the other; the last lane's
output is seen as it comes, another's when the stage is over.
The last line is `N passed, N failed, N skipped`; the exit code is 0 only if nothing failed.
A failed target does not stop the following ones. What needs a part that REQUIRE names fails where
it would be skipped.
"""

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing

import toolbox
from results import Results

# Far above what a step takes on two cores; a hung one must not hang CI.
STEP_LIMIT_S = 25 * 60
# How long the output may stay open after the step's end, until that counts as a leak.
LEAK_GRACE_S = 5
# Where the stories append `component<TAB>name` and `skipped<TAB>story<TAB>reason`.
REPORT_VARIABLE = "POINTSMAN_E2E_REPORT"
# The leaders of the sessions that run; none may begin once they were told to end.
_sessions: set[int] = set()
_ending = threading.Event()


@dataclasses.dataclass
class Step:
    """One make target that has run."""

    target: str
    results: Results
    seconds: float

    def kind(self) -> str:
        """`unit` for the target `test-unit`."""
        return self.target.removeprefix("test-")

    def has_tests(self) -> bool:
        """Whether the target is there to run tests."""
        return has_tests(self.target)


def has_tests(target: str) -> bool:
    """Whether a target is there to run tests (`check` is not)."""
    return target.startswith("test-")


def run_stage(stage: str) -> list[Step]:
    """Runs the lanes of a stage to their ends."""
    *beside, seen = [lane.split(",") for lane in stage.split("|")]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        held = [io.StringIO() for _ in beside]
        others = [pool.submit(run_lane, *each) for each in zip(beside, held, strict=True)]
        try:
            steps = run_lane(seen, sys.stdout)
            for other, output in zip(others, held, strict=True):
                steps += other.result()
                sys.stdout.write(output.getvalue())
        except KeyboardInterrupt:
            _ending.set()
            for leader in list(_sessions):
                _end_session(leader, signal.SIGTERM)
            raise
    return steps


def run_lane(targets: list[str], out: typing.TextIO) -> list[Step]:
    """Runs targets one after the other."""
    return [run(target, out) for target in targets if not _ending.is_set()]


def run(target: str, out: typing.TextIO) -> Step:
    """Runs one target, passing its output on while reading it."""
    print(f"\n=== make {target}", file=out, flush=True)
    results = Results()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pointsman-test-") as folder:
        report = pathlib.Path(folder) / "report"
        report.touch()
        # Without the outer make's flags: its job server is not open to us.
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        env[REPORT_VARIABLE] = str(report)
        code = _tee(["make", "--no-print-directory", target], env, results, out)
        for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
            results.report(line)
    results.end(code, has_tests(target))
    return Step(target, results, time.monotonic() - started)


def _tee(args: list[str], env: dict[str, str], results: Results, out: typing.TextIO) -> int:
    """Runs a command, passing its output on; the exit code."""
    # A session of its own, so that a hung step goes with all that it started.
    process = subprocess.Popen(
        args, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )
    _sessions.add(process.pid)
    # A thread, because the pipe stays open for as long as anything holds it, also a leaked Envoy.
    reader = threading.Thread(target=_pass_on, args=[process.stdout, results, out], daemon=True)
    reader.start()
    try:
        code = process.wait(STEP_LIMIT_S)
    except subprocess.TimeoutExpired:
        _end_session(process.pid, signal.SIGKILL)
        code = process.wait()
        hung = ", ".join(results.slow) or "no test"
        results.fail(f"killed after {STEP_LIMIT_S} s, while these ran: {hung}")
    reader.join(LEAK_GRACE_S)
    if reader.is_alive():
        _end_session(process.pid, signal.SIGKILL)
        results.fail("left a process running")
        reader.join(LEAK_GRACE_S)
    _sessions.discard(process.pid)
    return code


def _pass_on(output: typing.IO[str], results: Results, out: typing.TextIO) -> None:
    with output:
        for line in output:
            out.write(line)
            out.flush()
            results.read(line)


def _end_session(leader: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, how)


def summary(steps: list[Step]) -> str:
    """What ran, on what, what failed and what was skipped and why; ends with the totals."""
    lines = ["", "=== summary"]
    for step in steps:
        results = step.results
        if step.has_tests():
            text = f"{results.passed} passed, {results.failed} failed, {results.skipped} skipped"
        else:
            text = "done" if results.failed == 0 else "failed"
        where = f"  on {', '.join(results.components)}" if results.components else ""
        lines.append(f"{step.kind():<7} {text}  ({step.seconds:.0f} s){where}")
    for step in steps:
        lines += [f"failed: {step.kind()}: {name}" for name in step.results.failures]
    for step in steps:
        lines += [f"skipped: {step.kind()}: {text}" for text in step.results.skips]
    passed = sum(step.results.passed for step in steps)
    failed = sum(step.results.failed for step in steps)
    skipped = sum(step.results.skipped for step in steps)
    lines.append(f"{passed} passed, {failed} failed, {skipped} skipped")
    return "\n".join(lines)


def main(stages: list[str]) -> int:
    """Runs the stages; see the top of the file."""
    # A cancelled CI run must take its Envoys along, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        toolbox.required()
    except toolbox.FetchError as error:
        print(error, file=sys.stderr)
        return 2
    steps = []
    try:
        for stage in stages:
            steps += run_stage(stage)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(summary(steps), flush=True)
    return 1 if any(step.results.failed for step in steps) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a step of `make test` did, read from the words of the test programs themselves."""

import dataclasses
import re

# Colours, and the two ways in which terminals end them.
ANSI = re.compile(r"\x1b\[[0-9;]*m|\x1b\(B")
# libtest and wasm-bindgen-test.
TOTALS = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored;")
ONE_TEST = re.compile(r"^test (\S.*?) \.\.\. (ok|FAIL(?:ED)?|ignored)(?:, (.*))?$")
SLOW_TEST = re.compile(r"^test (\S.*?) has been running for over \d+ seconds$")
# Python's unittest.
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ")
UNITTEST_END = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$")
UNITTEST_BAD = re.compile(r"^(?:FAIL|ERROR): (.+)$")
COMPONENT = re.compile(r"^runs on (\S.*)$")


@dataclasses.dataclass
class Results:
    """Counts and names of one step; `read` takes its output line by line."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    skips: list[str] = dataclasses.field(default_factory=list)
    components: list[str] = dataclasses.field(default_factory=list)
    # Tests that take long and have not ended.
    slow: list[str] = dataclasses.field(default_factory=list)

    def read(self, raw: str) -> None:
        """Takes one line of output."""
        line = ANSI.sub("", raw.rstrip())
        if found := TOTALS.match(line):
            self._add(*(int(count) for count in found.groups()))
        elif found := ONE_TEST.match(line):
            name, outcome, reason = found.groups()
            self.slow = [slow for slow in self.slow if slow != name]
            if outcome == "ignored":
                self.skips.append(f"{name}: {reason or 'ignored without a reason'}")
            elif outcome != "ok":
                self.failures.append(name)
        elif found := SLOW_TEST.match(line):
            self.slow.append(found.group(1))
        elif found := UNITTEST_RAN.match(line):
            self.passed += int(found.group(1))
        elif found := UNITTEST_END.match(line):
            counts = dict(re.findall(r"(\w+)=(\d+)", found.group(1) or ""))
            failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
            skipped = int(counts.get("skipped", 0))
            self._add(-failed - skipped, failed, skipped)
        elif found := UNITTEST_BAD.match(line):
            self.failures.append(found.group(1))
        elif found := COMPONENT.match(line):
            self.component(found.group(1))

    def report(self, line: str) -> None:
        """Takes one line of the file that the stories write about themselves (tab-separated)."""
        match line.rstrip("\n").split("\t"):
            case ["component", name]:
                self.component(name)
            case ["skipped", story, reason]:
                # A story can only skip by returning, which libtest counts as passed.
                self._add(-1, 0, 1)
                self.skips.append(f"{story}: {reason}")
            case _:
                self.fail(f"unreadable line in the stories' report: {line.strip()!r}")

    def component(self, name: str) -> None:
        """Notes that the tests ran on this."""
        if name not in self.components:
            self.components.append(name)

    def fail(self, why: str) -> None:
        """Counts a failure that no test has counted."""
        self.failed += 1
        self.failures.append(why)

    def end(self, exit_code: int, has_tests: bool = True) -> None:
        """The step's end: failing without a failed test (a compiler error) counts as one, and so
        does a step of tests that ran none."""
        if exit_code != 0 and self.failed == 0:
            self.fail(f"ended with code {exit_code}, see its output above")
        if has_tests and self.passed + self.failed + self.skipped == 0:
            self.fail("not one test ran")

    def _add(self, passed: int, failed: int, skipped: int) -> None:
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

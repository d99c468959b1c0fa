"""The summary of `make test` is only worth reading if it counts rightly."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import typing
import unittest
import unittest.mock

import run_tests
import toolbox
from results import Results
from run_tests import Step, summary

GOOD = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"


def read(text: str, exit_code: int = 0, report: str = "") -> Results:
    results = Results()
    for line in text.splitlines():
        results.read(line)
    for line in report.splitlines():
        results.report(line)
    results.end(exit_code)
    return results


def counts(results: Results) -> tuple[int, int, int]:
    return results.passed, results.failed, results.skipped


# What is read, how it ends: passed, failed, skipped, and what is named.
CASES = {
    "all test programs of a run": (
        "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n" + GOOD, 0, "",
        (7, 0, 1), []),
    "failed and ignored tests": (
        "test gates::opens ... ok\ntest gates::closes ... FAILED\ntest docker ... ignored, no engine\n"
        "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n", 101, "",
        (1, 1, 1), ["gates::closes", "docker: no engine"]),
    "coloured output": (
        "test gates ... \x1b[31mFAILED\x1b(B\x1b[m\n"
        "test result: \x1b[31mFAILED\x1b[0m. 3 passed; 1 failed; 0 ignored;\n", 0, "",
        (3, 1, 0), ["gates"]),
    "an exit code without a failed test": (
        "error: could not compile `pointsman`\n", 2, "",
        (0, 1, 0), ["ended with code 2, see its output above"]),
    "a step that ran no test": (
        "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured;\n", 0, "",
        (0, 1, 0), ["not one test ran"]),
    "a step that printed nothing": ("", 0, "", (0, 1, 0), ["not one test ran"]),
    "skips alone": (
        "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured;\n", 0, "", (0, 0, 1), []),
    "a component, once": ("runs on Node 20.20.2\nruns on Node 20.20.2\n" + GOOD, 0, "",
                          (5, 0, 0), ["Node 20.20.2"]),
    "failures of Python's tests": (
        "FAIL: test_a (x.Y.test_a)\nERROR: test_b (x.Y.test_b)\n"
        "Ran 9 tests in 0.01s\n\nFAILED (failures=1, errors=1, skipped=2)\n", 1, "",
        (5, 2, 2), ["test_a (x.Y.test_a)", "test_b (x.Y.test_b)"]),
    "good tests of Python's": ("Ran 9 tests in 0.01s\n\nOK\n", 0, "", (9, 0, 0), []),
    "a skipped story, which does not count as passed": (
        GOOD, 0, "skipped\tcompose\tno Docker here\n", (4, 0, 1), ["compose: no Docker here"]),
    "components of the stories": (
        GOOD, 0, "component\tEnvoy 1.40.0\ncomponent\tEnvoy 1.40.0\n", (5, 0, 0), ["Envoy 1.40.0"]),
    "a line of the stories that cannot be read": (
        GOOD, 0, "componentEnvoy\n", (5, 1, 0), ["unreadable line in the stories' report: 'componentEnvoy'"]),
}


class ReadingTest(unittest.TestCase):
    def test_what_is_read_is_counted_and_named(self):
        for what, (text, exit_code, report, expected, named) in CASES.items():
            with self.subTest(what):
                results = read(text, exit_code, report)
                self.assertEqual(counts(results), expected)
                self.assertEqual(results.failures + results.skips + results.components, named)

    def test_what_runs_long_and_has_not_ended_is_known(self):
        words = "test {} has been running for over 60 seconds\n"
        results = read(words.format("a") + words.format("b") + "test a ... ok\n" + GOOD)
        self.assertEqual(results.slow, ["b"])

    def test_lints_need_no_tests(self):
        results = Results()
        results.end(0, has_tests=False)
        self.assertEqual(counts(results), (0, 0, 0))


class RunningAStep(unittest.TestCase):
    def run_shell(self, script: str, results: Results | None = None) -> tuple[int, Results]:
        results = results or Results()
        return run_tests._tee(["sh", "-c", script], dict(os.environ), results, io.StringIO()), results

    def test_output_is_read_and_the_exit_code_kept(self):
        script = "echo runs on Node 1.2.3; echo 'Ran 3 tests in 1s' >&2; exit 7"
        code, results = self.run_shell(script)
        self.assertEqual((code, results.components), (7, ["Node 1.2.3"]))
        self.assertEqual(results.passed, 3)

    def test_a_hung_step_is_killed_with_its_children_and_failed(self):
        with unittest.mock.patch.object(run_tests, "STEP_LIMIT_S", 0.2):
            code, results = self.run_shell("sleep 600 & sleep 600", Results(slow=["b"]))
        self.assertNotEqual(code, 0)
        self.assertEqual(results.failures, ["killed after 0.2 s, while these ran: b"])

    def test_a_leaked_process_is_killed_and_failed(self):
        with unittest.mock.patch.object(run_tests, "LEAK_GRACE_S", 0.2):
            code, results = self.run_shell("sleep 600 &")
        self.assertEqual((code, results.failures), (0, ["left a process running"]))


class Lanes(unittest.TestCase):
    def test_lanes_run_beside_each_other_and_their_outputs_do_not_mix(self):
        both = threading.Barrier(2)

        def run(target: str, out: typing.TextIO) -> Step:
            if target in ("a", "c"):
                both.wait(timeout=20)
            print(target, file=out)
            return Step(target, Results(), 0)

        output = io.StringIO()
        with unittest.mock.patch.object(run_tests, "run", run), contextlib.redirect_stdout(output):
            steps = run_tests.run_stage("a,b|c,d")
        self.assertEqual([step.target for step in steps], ["c", "d", "a", "b"])
        self.assertEqual(output.getvalue().split(), ["c", "d", "a", "b"])

    def test_who_is_told_to_end_takes_every_lane_along(self):
        tools = pathlib.Path(run_tests.__file__).parent
        with tempfile.TemporaryDirectory() as folder:
            makefile = "a b c d:\n\t@echo $$$$ > $@; exec sleep 600\n"
            pathlib.Path(folder, "Makefile").write_text(makefile)
            command = [sys.executable, str(tools / "run_tests.py"), "a,b|c,d"]
            with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as process:
                deadline = time.monotonic() + 20
                begun = [pathlib.Path(folder, name) for name in ("a", "c")]
                while not all(file.exists() for file in begun) and time.monotonic() < deadline:
                    time.sleep(0.01)
                process.terminate()
                self.assertEqual(process.wait(20), 130)
            self.assertFalse(any(pathlib.Path(folder, name).exists() for name in ("b", "d")))


class Required(unittest.TestCase):
    def with_require(self, value: str):
        return unittest.mock.patch.dict(os.environ, REQUIRE=value)

    def test_names_parts(self):
        for value, parts in (("", set()), ("docker", {"docker"}),
                             ("kubernetes,docker", {"docker", "kubernetes"})):
            with self.with_require(value):
                self.assertEqual(toolbox.required(), parts)

    def test_an_unknown_part_is_refused_before_anything_runs(self):
        with self.with_require("dokcer"), unittest.mock.patch.object(run_tests, "run") as run:
            with unittest.mock.patch.object(run_tests.sys, "stderr"):
                self.assertEqual(run_tests.main(["test-unit"]), 2)
            run.assert_not_called()


class Summary(unittest.TestCase):
    def test_ends_with_the_totals_and_says_what_was_skipped(self):
        skipped = read(
            GOOD, report="component\tEnvoy 1.40.0\nskipped\tcompose\tno Docker\n"
        )
        text = summary([Step("check", Results(), 3), Step("test-e2e", skipped, 60)])
        self.assertEqual(text.splitlines()[-1], "4 passed, 0 failed, 1 skipped")
        self.assertIn("skipped: e2e: compose: no Docker", text)
        self.assertIn("on Envoy 1.40.0", text)

    def test_a_failed_check_is_in_the_totals(self):
        text = summary([Step("check", read("", exit_code=2), 3)])
        self.assertEqual(text.splitlines()[-1], "0 passed, 1 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main()

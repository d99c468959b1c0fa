"""The summary of `make test` is only worth reading if it counts rightly."""

import os
import unittest
import unittest.mock

import run_tests
import toolbox
from results import Results
from run_tests import Step, summary


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


class CargoTest(unittest.TestCase):
    def test_sums_all_test_programs_of_a_run(self):
        results = read(
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n"
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
        )
        self.assertEqual(counts(results), (42, 0, 1))

    def test_names_failed_and_ignored_tests(self):
        results = read(
            "test gates::opens ... ok\n"
            "test gates::closes ... FAILED\n"
            "test docker ... ignored, no engine\n"
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n",
            exit_code=101,
        )
        self.assertEqual(counts(results), (1, 1, 1))
        self.assertEqual(results.failures, ["gates::closes"])
        self.assertEqual(results.skips, ["docker: no engine"])

    def test_reads_coloured_output(self):
        results = read(
            "test gates ... \x1b[31mFAILED\x1b(B\x1b[m\n"
            "test result: \x1b[31mFAILED\x1b[0m. 3 passed; 1 failed; 0 ignored;\n"
        )
        self.assertEqual(counts(results), (3, 1, 0))
        self.assertEqual(results.failures, ["gates"])

    def test_an_exit_code_without_a_failed_test_is_a_failure(self):
        results = read("error: could not compile `pointsman`\n", exit_code=2)
        self.assertEqual(counts(results), (0, 1, 0))

    def test_a_step_that_ran_no_test_is_a_failure(self):
        results = read("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured;\n")
        self.assertEqual((counts(results), results.failures), ((0, 1, 0), ["not one test ran"]))
        self.assertEqual(counts(read("")), (0, 1, 0))

    def test_skips_alone_are_no_failure(self):
        results = read("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured;\n")
        self.assertEqual(counts(results), (0, 0, 1))

    def test_lints_need_no_tests(self):
        results = Results()
        results.end(0, has_tests=False)
        self.assertEqual(counts(results), (0, 0, 0))

    def test_notes_each_component_once(self):
        results = read("runs on Node 20.20.2\nruns on Node 20.20.2\n")
        self.assertEqual(results.components, ["Node 20.20.2"])


class PythonUnittest(unittest.TestCase):
    def test_takes_failures_and_skips_off_the_number_that_ran(self):
        results = read(
            "FAIL: test_a (x.Y.test_a)\nERROR: test_b (x.Y.test_b)\n"
            "Ran 9 tests in 0.01s\n\nFAILED (failures=1, errors=1, skipped=2)\n",
            exit_code=1,
        )
        self.assertEqual(counts(results), (5, 2, 2))
        self.assertEqual(len(results.failures), 2)

    def test_all_good(self):
        self.assertEqual(counts(read("Ran 9 tests in 0.01s\n\nOK\n")), (9, 0, 0))


class StoriesReport(unittest.TestCase):
    TOTALS = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"

    def test_a_skipped_story_does_not_count_as_passed(self):
        results = read(self.TOTALS, report="skipped\tcompose\tno Docker here\n")
        self.assertEqual(counts(results), (4, 0, 1))
        self.assertEqual(results.skips, ["compose: no Docker here"])

    def test_components_come_from_the_stories(self):
        results = read(self.TOTALS, report="component\tEnvoy 1.40.0\ncomponent\tEnvoy 1.40.0\n")
        self.assertEqual(results.components, ["Envoy 1.40.0"])

    def test_a_line_that_cannot_be_read_fails_the_step(self):
        self.assertEqual(counts(read(self.TOTALS, report="componentEnvoy\n")), (5, 1, 0))


class RunningAStep(unittest.TestCase):
    def run_shell(self, script: str) -> tuple[int, Results]:
        results = Results()
        with unittest.mock.patch.object(run_tests.sys, "stdout"):
            return run_tests._tee(["sh", "-c", script], dict(os.environ), results), results

    def test_output_is_read_and_the_exit_code_kept(self):
        script = "echo runs on Node 1.2.3; echo 'Ran 3 tests in 1s' >&2; exit 7"
        code, results = self.run_shell(script)
        self.assertEqual((code, results.components), (7, ["Node 1.2.3"]))
        self.assertEqual(results.passed, 3)

    def test_a_hung_step_is_killed_with_its_children_and_failed(self):
        with unittest.mock.patch.object(run_tests, "STEP_LIMIT_S", 0.2):
            code, results = self.run_shell("sleep 600 & sleep 600")
        self.assertNotEqual(code, 0)
        self.assertEqual(results.failures, ["killed after 0.2 s"])

    def test_a_leaked_process_is_killed_and_failed(self):
        with unittest.mock.patch.object(run_tests, "LEAK_GRACE_S", 0.2):
            code, results = self.run_shell("sleep 600 &")
        self.assertEqual((code, results.failures), (0, ["left a process running"]))


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
            StoriesReport.TOTALS, report="component\tEnvoy 1.40.0\nskipped\tcompose\tno Docker\n"
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

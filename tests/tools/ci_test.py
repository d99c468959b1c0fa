"""`.ci/run` with stand-ins for the commands that it calls: what it runs, how it ends."""

import os
import pathlib
import subprocess
import tempfile
import unittest

from toolbox import PROJECT

MAKE = """#!/bin/sh
echo "make $* REQUIRE=$REQUIRE" >> "$CALLS"
case $1 in
test) echo a test; echo; echo "=== summary"; echo "1 passed, 0 failed, 0 skipped"; exit "$TESTS";;
bench) echo a figure; exit "$BENCH";;
esac
"""
SUMMARY = ["=== summary", "1 passed, 0 failed, 0 skipped"]


class CiTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.calls = self.folder / "calls"
        self.stand_in("make", MAKE)
        self.stand_in("cargo", "#!/bin/sh\n")
        self.stand_in("docker", "#!/bin/sh\nexit 0\n")
        self.stand_in("apt-get", "#!/bin/sh\n")

    def stand_in(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(script)
        path.chmod(0o755)

    def run_ci(self, tests: int = 0, bench: int = 0, **more: str) -> tuple[int, list[str], list[str]]:
        env = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "REQUIRE")}
        env |= {"PATH": f"{self.folder}:{env['PATH']}", "CALLS": str(self.calls)}
        env |= {"TESTS": str(tests), "BENCH": str(bench), **more}
        done = subprocess.run([PROJECT / ".ci/run"], env=env, capture_output=True, text=True)
        calls = self.calls.read_text().splitlines()
        return done.returncode, done.stdout.splitlines(), calls

    def test_the_tests_run_first_and_their_summary_is_the_end(self):
        code, said, calls = self.run_ci()
        self.assertEqual((code, said[-2:]), (0, SUMMARY))
        self.assertEqual([call.split()[1] for call in calls], ["test", "bench"])
        self.assertIn("QUICK=1", calls[1])

    def test_failed_tests_fail_it_and_the_bench_runs_all_the_same(self):
        code, said, calls = self.run_ci(tests=2, bench=1)
        self.assertEqual((code, said[-2:], len(calls)), (2, SUMMARY, 2))

    def test_a_case_that_cannot_be_measured_fails_it(self):
        code, said, _ = self.run_ci(bench=1)
        self.assertEqual((code, said[-2:]), (1, SUMMARY))
        self.assertIn("ci: the bench could not measure every case, see its output above", said)

    def test_what_the_machine_has_is_required(self):
        self.assertIn("REQUIRE=docker", self.run_ci()[2][0])
        self.stand_in("docker", "#!/bin/sh\nexit 1\n")
        self.assertNotIn("docker", self.run_ci()[2][-1])

    def test_a_cluster_of_ones_own_is_not_required_to_bear_every_story(self):
        self.assertNotIn("kubernetes", self.run_ci(KUBECONFIG="/a/file")[2][0])

    def test_whoever_calls_it_may_say_what_is_required(self):
        self.assertTrue(self.run_ci(REQUIRE="")[2][0].endswith("REQUIRE="))


if __name__ == "__main__":
    unittest.main()

"""The API server's fetcher, as far as it goes without a build."""

import os
import pathlib
import shutil
import tempfile
import unittest
import unittest.mock

import kubernetes
import toolbox
from toolbox import FetchError


class FetchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tools = pathlib.Path(folder.name) / "tools"
        env = {"POINTSMAN_TOOLS": str(self.tools), "PATH": os.environ["PATH"]}
        patches = [
            unittest.mock.patch.dict(os.environ, env, clear=True),
            unittest.mock.patch.object(toolbox, "print", create=True),
        ]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)

    def refused(self) -> str:
        with self.assertRaises(FetchError) as caught:
            kubernetes.fetch()
        self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.tools / "kubernetes-build").exists())
        return str(caught.exception)

    def test_what_kubernetes_names_is_taken(self):
        os.environ["KUBERNETES"] = "/some/where"
        self.assertEqual(kubernetes.fetch(), pathlib.Path("/some/where"))

    def test_what_was_built_is_taken(self):
        place = self.tools / "kubernetes"
        place.mkdir(parents=True)
        for name in [kubernetes.SERVER, *kubernetes.COMMANDS]:
            (place / name).touch()
        with unittest.mock.patch.object(kubernetes, "_make") as make:
            self.assertEqual(kubernetes.fetch(), place)
        make.assert_not_called()

    def test_a_machine_that_is_no_debian_is_told_so_in_one_line(self):
        with unittest.mock.patch.object(shutil, "which", return_value=None):
            self.assertIn("Debian", self.refused())

    def test_too_little_room_is_one_line(self):
        usage = shutil.disk_usage("/")._replace(free=10**9)
        with (
            unittest.mock.patch.object(shutil, "which", return_value="/usr/bin/apt-get"),
            unittest.mock.patch.object(pathlib.Path, "exists", lambda path: "keyrings" in str(path)),
            unittest.mock.patch.object(shutil, "disk_usage", return_value=usage),
        ):
            self.assertIn("1.0 GB free", self.refused())


if __name__ == "__main__":
    unittest.main()

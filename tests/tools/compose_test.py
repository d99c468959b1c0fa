"""The scripts around Docker, as far as they can be tried without an engine."""

import pathlib
import re
import tempfile
import unittest
import unittest.mock

import compiled
import sid
import stand_ins
from toolbox import PROJECT


class NamesTest(unittest.TestCase):
    def test_every_public_image_of_our_files_has_a_stand_in(self):
        dockerfile = (PROJECT / "envoy/Dockerfile").read_text()
        compose = (PROJECT / "envoy/docker-compose.yaml").read_text()
        named = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - {"scratch"}
        named |= set(re.findall(r"^\s+image: (\S+:\S+)", compose, re.MULTILINE))
        self.assertEqual(named, set(stand_ins.MAKERS))

    def test_a_name_that_exists_is_left_alone(self):
        images = stand_ins.Images()
        with unittest.mock.patch.object(stand_ins.docker, "image_id", return_value="sha256:1"):
            images.provide(*stand_ins.MAKERS)
        self.assertEqual(images.made, [])

    def test_names_that_a_build_takes_over_mean_again_what_they_meant(self):
        images = stand_ins.Images()
        before = {"pointsman": "sha256:of-the-user", "pointsman-module": None}
        with unittest.mock.patch.object(stand_ins.docker, "image_id", before.get):
            images.keep(*before)
        with unittest.mock.patch.object(stand_ins.docker, "run") as run, \
                unittest.mock.patch.object(stand_ins.docker, "remove_image") as remove:
            images.remove()
        run.assert_called_once_with("docker", "tag", "sha256:of-the-user", "pointsman")
        remove.assert_called_once_with("pointsman-module")


class CompiledTest(unittest.TestCase):
    LOCK = """
[[package]]
name = "libc"
version = "0.2.1"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "pointsman-filter"
version = "0.1.0"
dependencies = [
 "libc",
]
"""

    def kept(self, *places: str) -> set[str]:
        with tempfile.TemporaryDirectory() as folder:
            for place in places:
                path = pathlib.Path(folder) / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            return set(compiled.outputs(pathlib.Path(folder), self.LOCK))

    def test_dependencies_are_lent(self):
        places = {f"release/{kind}" for kind in (
            ".fingerprint/libc-1a", "build/libc-1a", "deps/liblibc-1a.rlib", "deps/libc-1a.d")}
        self.assertEqual(self.kept(*places), places)

    def test_nothing_of_the_project_s_own_crates_is_lent(self):
        self.assertEqual(self.kept(
            "release/.fingerprint/pointsman-filter-1a", "release/build/pointsman-filter-1a",
            "release/deps/libpointsman_filter-1a.rlib", "release/deps/pointsman_filter-1a.d",
            "release/deps/bench-1a", "wasm32-unknown-unknown/wasm/deps/pointsman_filter.wasm",
        ), set())

    def test_only_sources_that_the_lock_names_are_lent(self):
        self.assertEqual(compiled.packages(self.LOCK), ({"pointsman-filter"}, {"libc-0.2.1"}))


class MirrorTest(unittest.TestCase):
    def mirror(self, name: str, text: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            sources = pathlib.Path(folder)
            file = sources / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            with unittest.mock.patch.object(sid, "SOURCES", sources):
                return sid.mirror()

    def test_is_that_of_the_machine_in_either_form(self):
        old = "deb [arch=amd64] http://mirror.test/debian bookworm main\n"
        self.assertEqual(self.mirror("sources.list", old), "http://mirror.test/debian")
        new = "Types: deb\nURIs: https://mirror.test/debian/\nSuites: bookworm\n"
        found = self.mirror("sources.list.d/debian.sources", new)
        self.assertEqual(found, "https://mirror.test/debian/")

    def test_is_debian_s_own_where_the_machine_names_none(self):
        other = "# deb http://old.test/debian x\ndeb http://other.test/cloud x main\n"
        self.assertEqual(self.mirror("sources.list", other), "http://deb.debian.org/debian")


if __name__ == "__main__":
    unittest.main()

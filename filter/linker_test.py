"""Tests of linker.py."""

import pathlib
import re
import unittest

import linker
from linker import CALLBACKS, MAGIC, RENAMED, arguments, finished, short

ADAPTER = pathlib.Path(__file__).parent / "src" / "plugin"
# A callback of the SDK's traits, at the beginning of a method.
OVERRIDE = re.compile(r"^    fn (on_\w+)\(", re.MULTILINE)


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind, len(content)]) + content


def export_of(callback: str) -> str:
    """The function that the host calls for a callback of the SDK's traits."""
    return "proxy_" + re.sub(r"^on_http_(request|response)_", r"on_\1_", callback)


class LinkerTest(unittest.TestCase):
    def test_callbacks_that_the_adapter_overrides_are_exported(self):
        sources = [path.read_text() for path in sorted(ADAPTER.glob("*.rs"))]
        overridden = {name for source in sources for name in OVERRIDE.findall(source)}
        self.assertLessEqual({"on_tick", "on_configure", "on_http_request_headers"}, overridden)
        for callback in sorted(overridden):
            self.assertIn(export_of(callback), CALLBACKS | set(RENAMED.values()))
        # The end of a stream is its context's drop.
        self.assertTrue(any("impl Drop for" in source for source in sources))
        self.assertIn("proxy_on_delete", CALLBACKS)

    def test_unwanted_callbacks_are_not_exported(self):
        given = [
            "--export", "proxy_on_tick", "--export", "proxy_on_response_body", "--export=malloc",
            "--export=proxy_on_log", "--no-demangle", "--gc-sections", "-o", "x.wasm",
        ]
        kept = ["--export", "proxy_on_tick", "--export=malloc", "--gc-sections", "-o", "x.wasm"]
        self.assertEqual(arguments(given), kept)

    def test_names_lose_their_hash_and_escapes(self):
        self.assertEqual(short("core::fmt::write::h0123456789abcdef"), "core::write")
        self.assertEqual(short("alloc::raw_vec::RawVec<T,A>::grow_one"), "alloc::RawVec::grow_one")
        name = "_$LT$a..B$u20$as$u20$c..D$GT$::run::h0123456789abcdef"
        self.assertEqual(short(name), "<a::B as c::D>::run")
        self.assertEqual(short("proxy_on_tick"), "proxy_on_tick")
        self.assertEqual(short("pointsman_filter::plugin::root"), "plugin::root")

    def test_only_functions_keep_their_names(self):
        name = b"a::b::h0123456789abcdef"
        functions = b"\1\5" + bytes([len(name)]) + name
        names = b"\4name" + section(0, b"\3mod") + section(1, functions) + section(7, b"\0")
        code = section(10, b"\0" * 3)
        module = MAGIC + section(0, names) + code
        expected = MAGIC + section(0, b"\4name" + section(1, b"\1\5\4a::b")) + code
        self.assertEqual(finished(module), expected)
        self.assertEqual(finished(MAGIC + code), MAGIC + code)
        with self.assertRaises(ValueError):
            finished(b"\x7fELF")

    def test_what_stands_before_a_callback_of_the_sdk_takes_its_name(self):
        def exports(*names: bytes) -> bytes:
            each = (bytes([len(name)]) + name + bytes([0, 200, 1]) for name in names)
            return MAGIC + section(7, bytes([len(names)]) + b"".join(each))

        self.assertFalse(CALLBACKS & set(RENAMED.values()))
        for own, name in RENAMED.items():
            module = exports(b"malloc", own.encode(), b"memory")
            self.assertEqual(finished(module), exports(b"malloc", name.encode(), b"memory"))
            adapter = "".join(path.read_text() for path in ADAPTER.glob("*.rs"))
            self.assertIn(f"fn {own}(", adapter)

    def test_numbers_read_back(self):
        for number in (0, 127, 128, 300, 1 << 31):
            coded = linker._number(number)
            self.assertEqual(linker._read(coded, 0), (number, len(coded)))


if __name__ == "__main__":
    unittest.main()

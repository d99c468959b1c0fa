#!/usr/bin/env python3
"""The linker of the module that ships: rust-lld, without what a proxy would load in vain.

The SDK exports a callback for everything that a module can be told. The host calls each that is
exported, also where it does nothing: a response's body would cost a call into the VM per chunk.
What nothing exports any more the linker leaves out.

Functions keep their names, for Envoy's backtraces, but in a form that people read, which is also
the shorter one.
"""

import pathlib
import re
import subprocess
import sys

# All that the host needs to find: what src/plugin overrides, and what the SDK itself needs.
CALLBACKS = {
    "_initialize", "malloc", "proxy_abi_version_0_2_1", "proxy_on_context_create",
    "proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick", "proxy_on_http_call_response",
    "proxy_on_request_headers", "proxy_on_request_trailers", "proxy_on_response_headers",
    "proxy_on_delete",
}
# What stands in front of a callback of the SDK, and the name by which the host finds it.
RENAMED = {"pointsman_on_request_body": "proxy_on_request_body"}
MAGIC = b"\0asm\1\0\0\0"
CUSTOM_SECTION = 0
EXPORT_SECTION = 7
FUNCTION_NAMES = 1
# What Rust's mangling makes of characters that a symbol cannot have, and the hash at its end.
ESCAPES = {
    "$LT$": "<", "$GT$": ">", "$u20$": " ", "$C$": ",", "$RF$": "&", "$BP$": "*", "$LP$": "(",
    "$RP$": ")", "$u7b$": "{", "$u7d$": "}", "$u5b$": "[", "$u5d$": "]", "$u27$": "'",
    "$u3b$": ";", "$u2b$": "+", "$u22$": '"', "..": "::",
}
HASH = re.compile(r"::h[0-9a-f]{16}$")
# Ours are told from the libraries' by having no crate in front.
OWN = re.compile(r"\bpointsman_filter::")
# In a library's path the modules between the crate and the item, and the names of type parameters.
LIBRARIES = "alloc|core|dlmalloc|foldhash|hashbrown|proxy_wasm|serde_core|serde_json|std|xxhash_rust"
MODULES = re.compile(rf"\b({LIBRARIES})(?:::[a-z_0-9]+)+(?=::\w)")
PARAMETERS = re.compile(r"<[A-Z](?:,[A-Z])*>")


def arguments(args: list[str]) -> list[str]:
    """The linker's arguments: no `--export` of an unwanted callback, and names demangled."""
    result = []
    position = 0
    while position < len(args):
        arg = args[position]
        if arg == "--export" and position + 1 < len(args):
            if _is_wanted(args[position + 1]):
                result += args[position:position + 2]
            position += 2
            continue
        unwanted = arg.startswith("--export=") and not _is_wanted(arg.removeprefix("--export="))
        if not unwanted and arg != "--no-demangle":
            result.append(arg)
        position += 1
    return result


def _is_wanted(symbol: str) -> bool:
    return symbol in CALLBACKS or not symbol.startswith("proxy_")


def short(name: str) -> str:
    """A demangled name without its hash, its escapes, our crate and what stands between a library and
    its item: `a::b::c`, `core::Formatter::pad`."""
    name = HASH.sub("", name)
    for escape, character in ESCAPES.items():
        name = name.replace(escape, character)
    name = PARAMETERS.sub("", MODULES.sub(r"\1", OWN.sub("", name)))
    return name.removeprefix("_") if name.startswith("_<") else name


def finished(module: bytes) -> bytes:
    """The module with nothing but functions' names in its name section, each shortened, and with its
    exports renamed."""
    if not module.startswith(MAGIC):
        raise ValueError("no WebAssembly module")
    result = bytearray(MAGIC)
    position = len(MAGIC)
    while position < len(module):
        start = position
        kind = module[position]
        size, position = _read(module, position + 1)
        content = module[position:position + size]
        position += size
        if kind == CUSTOM_SECTION and content.startswith(b"\4name"):
            names = b"\4name" + _shortened(content[5:])
            result += bytes([CUSTOM_SECTION]) + _number(len(names)) + names
        elif kind == EXPORT_SECTION:
            exports = _renamed(content)
            result += bytes([EXPORT_SECTION]) + _number(len(exports)) + exports
        else:
            result += module[start:position]
    return bytes(result)


def _shortened(subsections: bytes) -> bytes:
    position = 0
    while position < len(subsections):
        kind = subsections[position]
        size, position = _read(subsections, position + 1)
        if kind == FUNCTION_NAMES:
            names = _shortened_names(subsections[position:position + size])
            return bytes([kind]) + _number(len(names)) + names
        position += size
    return b""


def _shortened_names(names: bytes) -> bytes:
    count, position = _read(names, 0)
    result = bytearray(_number(count))
    for _ in range(count):
        index, position = _read(names, position)
        size, position = _read(names, position)
        name = short(names[position:position + size].decode()).encode()
        position += size
        result += _number(index) + _number(len(name)) + name
    return bytes(result)


def _renamed(exports: bytes) -> bytes:
    count, position = _read(exports, 0)
    result = bytearray(_number(count))
    for _ in range(count):
        size, position = _read(exports, position)
        name = exports[position:position + size].decode()
        name = RENAMED.get(name, name).encode()
        position += size
        start = position
        _, position = _read(exports, position + 1)
        result += _number(len(name)) + name + exports[start:position]
    return bytes(result)


def _read(data: bytes, position: int) -> tuple[int, int]:
    """A LEB128 number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position


def _number(number: int) -> bytes:
    result = bytearray()
    while number >= 0x80:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def main() -> int:
    """Links as rustc asks; it has put its own linker on PATH."""
    args = arguments(sys.argv[1:])
    try:
        linked = subprocess.run(["rust-lld", *args])
        if linked.returncode == 0 and "-o" in args:
            output = pathlib.Path(args[args.index("-o") + 1])
            output.write_bytes(finished(output.read_bytes()))
    except (OSError, ValueError) as error:
        print(f"linker: {error}", file=sys.stderr)
        return 1
    return linked.returncode


if __name__ == "__main__":
    sys.exit(main())

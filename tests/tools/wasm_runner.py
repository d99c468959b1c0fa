#!/usr/bin/env python3
"""Cargo's runner for wasm32 tests: wasm-bindgen's own, with a Node that is surely there."""

import os
import sys

import node
import rust
from toolbox import FetchError, say


def main() -> int:
    """Becomes the test runner; returns only when that is impossible."""
    try:
        runner = rust.wasm_bindgen()
        program = node.fetch()
        # The summary of `make test` reads this line.
        print(f"runs on Node {node.version(program)}", flush=True)
        path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        os.execve(runner, [str(runner), *sys.argv[1:]], {**os.environ, "PATH": path})
    except FetchError as error:
        say(str(error))
    except OSError as error:
        say(f"the wasm test runner does not start: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

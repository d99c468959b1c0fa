"""The runner of wasm-bindgen's tests, which Cargo builds."""

import os
import pathlib
import re
import shutil

import debian
import toolbox
from toolbox import PROJECT, FetchError, say

RUNNER = "wasm-bindgen-test-runner"


def wasm_bindgen() -> pathlib.Path:
    """The test runner in exactly the version that Cargo.lock has: another one refuses to run."""
    lock = (PROJECT / "Cargo.lock").read_text(encoding="utf-8")
    version = re.findall(r'name = "wasm-bindgen"\nversion = "([^"]+)"', lock)[0]
    root = toolbox.folder() / f"wasm-bindgen-{version}"
    with toolbox.only_one(root.name):
        if not (root / "bin" / RUNNER).exists():
            _install(version, root)
    return root / "bin" / RUNNER


def _install(version: str, root: pathlib.Path) -> None:
    say(f"wasm-bindgen: building wasm-bindgen-cli {version} (1 to 2 minutes, once)")
    build = root.with_name(root.name + "-build")
    # Not our flags and target: they are meant for the project's own code.
    ours = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    # It runs for seconds per test run: a quick build pays, a fast program does not.
    env |= {"CARGO_TARGET_DIR": str(build), "CARGO_PROFILE_DEV_DEBUG": "false", "CARGO_INCREMENTAL": "0"}
    # Without features: TLS is for browsers on other machines.
    command = ["cargo", "install", "wasm-bindgen-cli", "--version", f"={version}", "--root", str(root),
               "--bin", RUNNER, "--debug", "--no-default-features", "--no-track", "--quiet"]
    try:
        try:
            debian.run([*command, "--locked"], "cargo install of wasm-bindgen-cli", PROJECT, env)
        except FetchError as error:
            # A registry may lack a version that the lock of this release names: a mirror that is
            # behind, or one that was withdrawn since.
            if "failed to select a version" not in str(error):
                raise
            say("wasm-bindgen: the registry lacks a dependency as locked; taking what it has")
            debian.run(command, "cargo install of wasm-bindgen-cli", PROJECT, env)
    finally:
        shutil.rmtree(build, ignore_errors=True)

"""What the Rust toolchain lacks for wasm: the target, and the runner of wasm-bindgen-test."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import toolbox
from toolbox import PROJECT, FetchError, say

TARGET = "wasm32-unknown-unknown"
RUNNER = "wasm-bindgen-test-runner"


def wasm_target() -> pathlib.Path:
    """The folder of the target's standard library, added by rustup when it is missing."""
    libs = _target_libs()
    if libs and any(libs.glob("libcore-*.rlib")):
        return libs
    if not shutil.which("rustup"):
        raise FetchError(f"this Rust has no {TARGET} and there is no rustup to add it")
    with toolbox.only_one(TARGET):
        say(f"wasm-target: rustup target add {TARGET}")
        # In the project's folder, so that it goes to the toolchain that rust-toolchain.toml pins.
        done = subprocess.run(
            ["rustup", "target", "add", TARGET],
            cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=sys.stderr,
        )
    libs = _target_libs()
    if done.returncode != 0 or not libs:
        raise FetchError(f"`rustup target add {TARGET}` failed, its own words are above")
    return libs


def wasm_bindgen() -> pathlib.Path:
    """The test runner in exactly the version that Cargo.lock has: another one refuses to run."""
    wanted = _locked_version("wasm-bindgen")
    root = toolbox.folder() / f"wasm-bindgen-{wanted}"
    runner = root / "bin" / RUNNER
    with toolbox.only_one(root.name):
        if not runner.exists():
            _install(wanted, root)
    return runner


def _target_libs() -> pathlib.Path | None:
    try:
        answer = subprocess.run(
            ["rustc", "--print", "target-libdir", "--target", TARGET],
            cwd=PROJECT, capture_output=True, text=True,
        )
    except OSError as error:
        raise FetchError(f"rustc does not run ({error.strerror}): install Rust first") from error
    return pathlib.Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _locked_version(crate: str) -> str:
    lock = (PROJECT / "Cargo.lock").read_text(encoding="utf-8")
    found = re.search(rf'name = "{re.escape(crate)}"\nversion = "([^"]+)"', lock)
    if not found:
        raise FetchError(f"Cargo.lock does not name {crate}, so its version is unknown")
    return found.group(1)


def _install(version: str, root: pathlib.Path) -> None:
    say(f"wasm-bindgen: building wasm-bindgen-cli {version} (2 to 4 minutes, once)")
    build = root.with_name(root.name + "-build")
    # Not our RUSTFLAGS and target: they are meant for the project's own code.
    kept = {
        name: value for name, value in os.environ.items()
        if name not in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")
    }
    # It runs for a second per test run: a quick build pays, a fast program does not.
    kept |= {"CARGO_TARGET_DIR": str(build), "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1"}
    install = [
        "cargo", "install", "wasm-bindgen-cli", "--version", f"={version}", "--root", str(root),
        "--bin", RUNNER, "--no-track", "--quiet",
    ]
    try:
        # Newest fitting dependencies are the second choice, for when a locked one was withdrawn.
        for extra in (["--locked"], []):
            if not extra:
                say("wasm-bindgen: not possible with the locked dependencies, taking fitting ones")
            done = subprocess.run(
                install + extra, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                env=kept,
            )
            if done.returncode == 0:
                say(f"wasm-bindgen: {version} is in {root}")
                return
    except OSError as error:
        raise FetchError(f"cargo does not run ({error.strerror}): install Rust first") from error
    finally:
        shutil.rmtree(build, ignore_errors=True)
    raise FetchError(f"`{' '.join(install)}` failed, cargo's own words are above")

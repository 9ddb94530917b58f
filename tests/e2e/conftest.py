"""What the tests of the built zipapp share: where it is, the Pythons of this machine, a folder for every user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13")


def find_pythons(version: str) -> Iterator[Path]:
    """Yield the interpreters of that CPython version: those on the PATH, those of the system, those of pyenv."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    on_path = shutil.which(name)
    candidates = [Path(on_path)] if on_path else []
    for candidate in (*candidates, Path("/usr/bin", name), *sorted(pyenv.glob(f"{version}.*/bin/python3"))):
        if candidate.exists() and is_version(candidate, version):
            yield candidate


def is_version(python: Path, version: str) -> bool:
    """Tell whether `python` runs and is of `version`: pyenv's shims stand for versions that may not be there."""
    done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.startswith(f"Python {version}.")


@pytest.fixture(scope="session")
def zipapp() -> Path:
    """Return the zipapp that make built before the tests."""
    path = REPOSITORY / "dist" / "pkgserver.pyz"
    require("zipapp", available=path.exists(), how_to_get="make pyz")
    return path


@pytest.fixture(scope="session", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    """Return an interpreter of each supported version in turn."""
    found = next(find_pythons(request.param), None)
    require(f"python{request.param}", available=found is not None, how_to_get=f"pyenv install {request.param}")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SHIV_ROOT that the tests share, so that each Python unpacks once."""
    return tmp_path_factory.mktemp("unpacked")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can enter, which `tmp_path` is not, with a `tmp` that every user can write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        yield folder

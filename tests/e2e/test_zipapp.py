from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.conftest import require
from tests.e2e.conftest import REPOSITORY, VERSIONS, find_pythons

from pkgserver_trio import __version__

NOBODY = 65534
NO_HOME = "/dev/null"  # even root can make no folder in it


def run(*command: str | Path, cwd: str | Path = "/", **environment: str | Path) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "HOME": NO_HOME, **environment}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def require_root() -> None:
    require("root", available=os.geteuid() == 0, how_to_get="run the tests as root")


def as_nobody(*command: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return run(*user, *command, **environment)


def python_of_every_user() -> Path:
    found = [python for version in VERSIONS for python in find_pythons(version)]
    usable = [python for python in found if as_nobody("test", "-x", python.resolve()).returncode == 0]
    require("python-of-every-user", available=bool(usable), how_to_get="apt-get install python3")
    return usable[0]


def assert_answers(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout


def assert_refuses(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"pkgserver: nowhere to unpack to: .*{reason}.*; set SHIV_ROOT to .*\n", done.stderr)


def test_it_tells_its_version_and_its_usage(zipapp: Path, python: Path, unpacked: Path) -> None:
    assert_answers(run(python, zipapp, "--version", SHIV_ROOT=unpacked))
    usage = run(python, zipapp, "--help", SHIV_ROOT=unpacked)
    assert (usage.returncode, usage.stderr) == (0, "")
    assert "check-config" in usage.stdout


def test_every_bundled_package_imports_without_its_compiled_part(zipapp: Path, python: Path, unpacked: Path) -> None:
    with zipfile.ZipFile(zipapp) as archive:
        paths = [Path(name).parts for name in archive.namelist()]
    packages = {part[1] for part in paths if part[0] == "site-packages" and part[2:] == ("__init__.py",)}
    packages -= {"anycrc"}  # which is nothing else

    done = run(python, zipapp, "-c", f"import {', '.join(sorted(packages))}", SHIV_ROOT=unpacked, SHIV_INTERPRETER="1")

    assert (done.returncode, done.stderr) == (0, "")
    assert {"markupsafe", "pkgserver_trio", "trio"} <= packages


@pytest.mark.parametrize("module", ["isal.isal_zlib", "anycrc"])
def test_the_compiled_part_of_the_running_python_is_found(
    zipapp: Path, python: Path, unpacked: Path, module: str
) -> None:
    glibc_processor = platform.machine() if platform.libc_ver()[0] == "glibc" else "none"
    if glibc_processor not in {"x86_64", "aarch64"}:
        pytest.skip("compiled parts are bundled for x86-64 and arm64 with glibc")

    done = run(python, zipapp, "-c", f"import {module}", SHIV_ROOT=unpacked, SHIV_INTERPRETER="1")

    assert (done.returncode, done.stderr) == (0, "")


def test_compiled_code_is_that_of_two_packages_for_every_python_and_processor(zipapp: Path) -> None:
    with zipfile.ZipFile(zipapp) as archive:
        compiled = [Path(name).parts for name in archive.namelist() if ".so" in Path(name).suffixes]

    assert {(parts[1], parts[-1].split(".", 1)[1]) for parts in compiled} == {
        (package, f"cpython-{version.replace('.', '')}-{processor}-linux-gnu.so")
        for package in ("anycrc", "isal")
        for version in VERSIONS
        for processor in ("x86_64", "aarch64")
    }


def test_another_build_elsewhere_is_the_same_byte_for_byte(zipapp: Path, tmp_path: Path) -> None:
    for name in ("src", ".ci", "build/wheels"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.lock", "shiv.spec"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)

    build = ("sh", "-c", 'umask 077; exec "$0" .ci/build_zipapp.py again.pyz', sys.executable)
    done = run(*build, cwd=tmp_path, PYTHONHASHSEED="1")

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()


def test_processes_that_start_at_once_unpack_once(zipapp: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "SHIV_ROOT": str(tmp_path)}
    command = (sys.executable, zipapp, "--version")
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(3)]

    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(list(tmp_path.glob("pkgserver.pyz_*"))) == 1


def test_user_without_a_home_unpacks_into_a_private_folder(zipapp: Path, open_folder: Path) -> None:
    require_root()
    python, copy = python_of_every_user(), shutil.copy(zipapp, open_folder)

    assert_answers(as_nobody(python, copy, "--version", HOME="/", TMPDIR=open_folder / "tmp"))

    private = (open_folder / "tmp" / f"pkgserver-{NOBODY}").stat()
    assert (private.st_uid, stat.S_IMODE(private.st_mode)) == (NOBODY, 0o700)


def test_folder_that_another_user_made_for_us_is_refused(zipapp: Path, open_folder: Path) -> None:
    require_root()
    python, copy, other = python_of_every_user(), shutil.copy(zipapp, open_folder), 1
    planted = open_folder / "tmp" / f"pkgserver-{NOBODY}"
    planted.mkdir()
    os.chown(planted, other, other)

    done = as_nobody(python, copy, "--version", TMPDIR=open_folder / "tmp")

    assert_refuses(done, "others could leave code there")


def test_link_in_the_place_of_the_private_folder_is_refused(zipapp: Path, open_folder: Path, tmp_path: Path) -> None:
    (open_folder / "tmp" / f"pkgserver-{os.getuid()}").symlink_to(tmp_path)

    done = run(sys.executable, zipapp, "--version", TMPDIR=open_folder / "tmp")

    assert_refuses(done, "others could leave code there")


def test_folder_that_all_can_write_to_is_refused(zipapp: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    assert_refuses(run(sys.executable, zipapp, "--version", SHIV_ROOT=tmp_path), "others could leave code there")


def test_chosen_folder_that_cannot_be_made_stops_the_start(zipapp: Path) -> None:
    assert_refuses(run(sys.executable, zipapp, "--version", SHIV_ROOT="/dev/null/cache"), "Not a directory")


def test_build_that_root_unpacked_serves_a_user_who_cannot_write_there(zipapp: Path, open_folder: Path) -> None:
    require_root()
    python, copy, root = python_of_every_user(), shutil.copy(zipapp, open_folder), open_folder / "unpacked"
    root.mkdir(mode=0o755)
    assert_refuses(as_nobody(python, copy, "--version", SHIV_ROOT=root), "not writable")

    assert_answers(run(python, copy, "--version", SHIV_ROOT=root))

    assert_answers(as_nobody(python, copy, "--version", SHIV_ROOT=root))


def test_first_start_needs_only_one_writable_folder_and_no_network(zipapp: Path, tmp_path: Path) -> None:
    require_root()
    script = """
        mount --bind "$1" "$1"
        mount --bind "$2" "$2"
        for folder in / "$2" /dev/shm; do
            ! mountpoint -q $folder || mount -o remount,bind,ro $folder
        done
        if touch "$2" 2>/dev/null; then exit 99; fi
        exec "$3" "$2" --version
    """
    private = ("unshare", "--mount", "--propagation=private", "--net", "sh", "-ec", script, "sh")

    assert_answers(run(*private, tmp_path, zipapp, sys.executable, SHIV_ROOT=tmp_path))

# ruff: noqa: INP001 - a program, not a package
"""Build the zipapp: `build_zipapp.py OUTPUT`, from the repository's folder, with the tools of requirements-build.lock.

1. A wheel is a zip of what goes into site-packages, so staging is unpacking: no installer leaves its traces.
2. Every dependency's wheel is the one that requirements.lock names by hash. The wheels do not depend on the Python and
   the processor that build, so neither does the result; once they are in build/wheels, building needs no network.
3. Compiled code is optional for every dependency. It is removed, but for what is worth its megabytes: one file for
   each Python version and processor, side by side, told apart by the tag in their names. With `--native` it is there
   for the Python and the processor that build only.
4. Without OUTPUT the wheels are downloaded, and no more.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

LOCK = Path("requirements.lock")
SPEC = Path("shiv.spec")
WHEELS = Path("build/wheels")
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
COMPILED = ("anycrc", "isal")
# They name the wheel's platform or list the files that are removed here.
UNTRUE = ("RECORD", "WHEEL")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can tell
EPOCH_SECONDS = "315532800"


def main() -> None:
    """Write the zipapp to the path that is the argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--native", action="store_true")
    parser.add_argument("output", nargs="?", type=Path)
    arguments = parser.parse_args()
    here = (f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine())
    targets = [here] if arguments.native else list(product(PYTHONS, PROCESSORS))
    _download(targets)
    if arguments.output is not None:
        _build(arguments.output, targets)


def _build(output: Path, targets: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        site, packed = Path(folder, "site"), Path(folder, "packed.pyz")
        _build_own_wheel(Path(folder))
        _stage([*WHEELS.glob("*.whl"), *Path(folder).glob("*.whl")], site, targets)
        _run("shiv", *_spec(), f"--site-packages={site}", f"--output-file={packed}")
        output.parent.mkdir(parents=True, exist_ok=True)
        _finish(packed, output)


def _run(module: str, *arguments: str) -> None:
    """Run a tool of this Python; its output is shown only when it fails."""
    # shiv and hatchling write this time into what they make.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH_SECONDS, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603 - the tools and arguments are ours
    if done.returncode:
        sys.stderr.buffer.write(done.stdout)
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}")


def _download(targets: list[tuple[str, str]]) -> None:
    """Fill build/wheels, unless it was filled from this very lock file for the same Pythons and processors."""
    stamp = WHEELS / LOCK.name
    recipe = f"# for {targets}\n{LOCK.read_text()}"
    if stamp.exists() and stamp.read_text() == recipe:
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    WHEELS.mkdir(parents=True)
    _fetch(LOCK, *targets[0])
    with TemporaryDirectory() as folder:
        compiled = Path(folder, "compiled.lock")
        compiled.write_text("\n".join(_pin(name) for name in COMPILED))
        for python, processor in targets[1:]:
            _fetch(compiled, python, processor)
    stamp.write_text(recipe)


def _pin(name: str) -> str:
    """Return the lines of the lock file that pin the package `name`."""
    return next(pin for pin in LOCK.read_text().replace("\\\n", "").splitlines() if pin.startswith(f"{name}=="))


def _fetch(requirements: Path, python: str, processor: str) -> None:
    platforms = (f"--platform={platform}_{processor}" for platform in PLATFORMS)
    target = ("--implementation=cp", f"--python-version={python}", "--only-binary=:all:", *platforms)
    files = (f"--requirement={requirements}", f"--dest={WHEELS}")
    _run("pip", "download", "--no-deps", "--require-hashes", *target, *files)


def _build_own_wheel(folder: Path) -> None:
    _run("pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={folder}", ".")


def _stage(wheels: list[Path], site: Path, targets: list[tuple[str, str]]) -> None:
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [member for member in archive.namelist() if _is_wanted(Path(member))])
        for module in site.rglob("*.abi3.so"):
            _tag(module, [target for target in targets if wheel.stem.endswith(target[1])])


def _tag(module: Path, targets: list[tuple[str, str]]) -> None:
    """Copy what is for all Pythons under the tag of each: only these tell processors and C libraries apart."""
    name = module.name.removesuffix(".abi3.so")
    for python, processor in targets:
        shutil.copy(module, module.with_name(f"{name}.cpython-{python.replace('.', '')}-{processor}-linux-gnu.so"))
    module.unlink()


def _is_wanted(member: Path) -> bool:
    package = member.parts[0]
    if package.endswith(".data"):
        sys.exit(f"{member}: a wheel with files outside site-packages needs a real installer")
    if package.endswith(".dist-info"):
        return member.name not in UNTRUE
    return member.suffix != ".so" or package in COMPILED


def _spec() -> list[str]:
    """Return the arguments in shiv.spec."""
    return [line for line in SPEC.read_text().splitlines() if line and not line.startswith("#")]


def _finish(packed: Path, output: Path) -> None:
    """Copy the zipapp that shiv packed, with our own start and with nothing of the file system's order or the umask."""
    with zipfile.ZipFile(packed) as source, output.open("wb") as file:
        members = {name: source.read(name) for name in source.namelist()}
        members["__main__.py"] = Path(__file__).with_name("zipapp_main.py").read_bytes()
        with packed.open("rb") as shebang:
            file.write(shebang.readline())
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
            for name in sorted(members):
                member = zipfile.ZipInfo(name, EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = 0o100644 << 16
                target.writestr(member, members[name])
    output.chmod(0o755)


if __name__ == "__main__":
    main()

"""The targets: the zipapp with a storage server of the tests, or whatever is at `--base-url`.

`pytest tests/acceptance --base-url=https://pkg.example.org` tests any server, as far as its clients can.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.fixtures import authorization, client, fresh, servers, storage
from tests.acceptance.target import Target, eventually
from tests.conftest import require
from tests.integration.storage import open_storage
from tests.integration.zipapp import PYZ, running_zipapp

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["authorization", "client", "flavorless_target", "fresh", "servers", "storage", "target"]

FQDN = "starfleet.pkg.invalid"
PASSWORD = "correct horse"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("acceptance", "the package server that tests/acceptance tests")
    group.addoption("--base-url", help="the server to test, instead of the zipapp")
    group.addoption("--server-url", action="append", default=[], help="a server behind it, with nothing in between")
    group.addoption("--admin-password-file", type=Path, help="a file with the password of its /admin")


@pytest.fixture(scope="package")
def target(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Give the server under test."""
    given = given_target(pytestconfig)
    if given is not None:
        yield given
        return
    settings = {"JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256": hashlib.sha256(PASSWORD.encode()).hexdigest()}
    with zipapp_target(tmp_path_factory.mktemp("target"), settings, admin_password=PASSWORD) as made:
        yield made


@pytest.fixture(scope="package")
def flavorless_target(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Give a server that is configured to be flavorless, and without a password for `/admin`."""
    given = given_target(pytestconfig)
    if given is not None:
        pytest.skip("another server is tested, and only that one")
    settings = {"JULIA_PKG_SERVER_FLAVORLESS": "true"}
    with zipapp_target(tmp_path_factory.mktemp("flavorless"), settings, flavorless=True) as made:
        yield made


def given_target(config: pytest.Config) -> Target | None:
    """Return the server that the command line names."""
    base_url: str | None = config.getoption("--base-url", default=None)  # unknown where all of tests/ is collected
    if base_url is None:
        return None
    password: Path | None = config.getoption("--admin-password-file")
    target = Target(
        base_url=base_url,
        server_urls=tuple(config.getoption("--server-url")),
        admin_password=None if password is None else password.read_text().removesuffix("\n"),
    )
    with target.client() as client:
        return replace(target, flavorless=client.ask("/registries")[0] == 200)


@contextmanager
def zipapp_target(
    folder: Path, settings: dict[str, str], *, admin_password: str | None = None, flavorless: bool = False
) -> Iterator[Target]:
    """Run the zipapp with its store in `folder`, before a storage server that offers the sample."""
    require("zipapp", available=PYZ.exists(), how_to_get="make pyz")
    with open_storage(dict(build_sample().files)) as storage:
        upstream = {"JULIA_PKG_SERVER_STORAGE_SERVERS": storage.url, "JULIA_PKG_SERVER_FQDN": FQDN}
        with running_zipapp(folder, upstream | settings) as server:
            target = Target(
                base_url=server.url,
                server_urls=(server.url,),
                roots=(folder / "store",),
                storage=storage,
                admin_password=admin_password,
                public_url=f"https://{FQDN}",
                flavorless=flavorless,
            )
            with target.client() as client:
                eventually(lambda: b'"status": "ok"' in client.ask("/readyz")[2])  # every flavor is published
            yield target

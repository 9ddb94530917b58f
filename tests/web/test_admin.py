"""`/admin`: who may use it, and what it does."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import Behaviour
from tests.web.raw import connected
from tests.web.site import halved, until

from pkgserver_trio.web import admin_access

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

PASSWORD = "s3cr3t"
TOKEN_SHA256 = hashlib.sha256(PASSWORD.encode()).hexdigest()
ADMIN = ("admin", PASSWORD)
WRONG = ("admin", "wrong")
HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
async def site(serve: Serve, sample: Sample) -> Site:
    """Give a server in front of the sample whose admin endpoint is enabled."""
    return await serve(files=sample.files, JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=TOKEN_SHA256)


async def flights_of(site: Site, path: str) -> list[dict[str, Any]]:
    flights = (await site.client.get("/admin/flights", auth=ADMIN)).json()
    return [flight for flight in flights if flight["resource"] == path[1:]]


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/logs", "/admin/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_without_a_token_it_is_disabled_and_says_so(serve: Serve, path: str, method: str) -> None:
    site = await serve()
    answer = await site.client.request(method, path, auth=ADMIN)
    assert answer.status_code == 404
    assert "the /admin endpoint is disabled" in answer.text


@pytest.mark.parametrize("path", ["/admin", "/admin/logs", f"/admin/cache/artifact/{HASH}", "/admin/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("auth", [None, WRONG, ("root", PASSWORD)])
async def test_nothing_of_it_is_told_without_the_password(
    site: Site, path: str, method: str, auth: tuple[str, str] | None
) -> None:
    answer = await site.client.request(method, path, auth=auth)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_it_greets_and_lists_what_is_there(site: Site) -> None:
    answer = await site.client.get("/admin?whatever", auth=ADMIN)
    assert answer.status_code == 200
    assert answer.text.startswith("Welcome to the /admin endpoint of the package server.\n")
    for path in ("/admin/logs", "/admin/flights", "/admin/cache/verify", "/admin/cache/<resource path>"):
        assert path in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/nowhere",
        "/admin//logs",
        "/admin/%6cogs",
        "/admin/cache",
        "/admin/cache/",
        f"/admin/cache/artifact/{HASH}/",
        f"/admin/cache//artifact/{HASH}",
        f"/admin/cache/artifact/{HASH.upper()}",
        f"/admin/cache/../cache/artifact/{HASH}",
        "/admin/cache/artifact/..",
    ],
)
async def test_paths_are_as_strict_as_everywhere(site: Site, path: str) -> None:
    async with connected(site.port) as raw:
        await raw.ask(path, "Authorization: Basic YWRtaW46czNjcjN0", method="DELETE")
        assert (await raw.head()).status == 404


async def test_what_only_begins_alike_is_no_part_of_it(site: Site) -> None:
    assert (await site.client.get("/administration")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/admin", "GET, HEAD"),
        ("HEAD", "/admin/logs", "GET"),
        ("DELETE", "/admin/flights", "GET, HEAD"),
        ("DELETE", "/admin/cache/verify", "GET, HEAD, POST"),
        ("GET", f"/admin/cache/artifact/{HASH}", "DELETE"),
        ("DELETE", f"/artifact/{HASH}", "GET, HEAD"),
    ],
)
async def test_another_method_is_refused_with_those_of_the_route(
    site: Site, method: str, path: str, allowed: str
) -> None:
    answer = await site.client.request(method, path, auth=ADMIN)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


async def test_failures_are_told_and_slowed_down_and_lock_nobody_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_access, "PAUSE_SECONDS", 600.0)  # longer than all of this may ever take
    with capture_logs() as lines:
        answers = [await site.client.get("/admin/flights", auth=WRONG) for _ in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 600
    told = [line for line in lines if line["event"] == "admin access denied"]
    assert [(line["peer"], line["path"]) for line in told] == [("127.0.0.1", "/admin/flights")] * 10
    assert (await site.client.get("/admin", auth=ADMIN)).status_code == 200
    assert (await site.client.get("/admin")).status_code == 401
    assert (await site.client.get("/admin", auth=WRONG)).status_code == 429
    other = await site.client.get("/admin", auth=WRONG, headers={"X-Forwarded-For": "192.0.2.1"})
    assert other.status_code == 401


async def test_a_removed_resource_is_fetched_again(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    answer = await site.client.delete(f"/admin/cache{path}", auth=ADMIN)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert path not in site.cached
    again = await site.client.delete(f"/admin/cache{path}", auth=ADMIN)
    assert (again.status_code, again.text) == (404, f"{path[1:]} is not cached\n")
    miss = await site.client.get(path)
    assert (miss.headers["X-Cache-Miss"], miss.content) == ("miss", sample.files[path])


async def test_what_the_disk_does_not_let_go_of_is_told(
    site: Site, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    path = sample.artifact.path
    await site.warm(path)
    monkeypatch.setattr(site.library.store.disk, "fsync_folder", refuse)
    answer = await site.client.delete(f"/admin/cache{path}", auth=ADMIN)
    assert answer.status_code == 503
    assert "Read-only file system" in answer.text


async def test_running_downloads_are_listed_and_not_removed(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(
        script={("GET", path): halved(body, release)},
        files=sample.files,
        JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=TOKEN_SHA256,
    )
    async with connected(site.port) as raw:
        await raw.ask(path)
        await raw.head()
        (flight,) = await flights_of(site, path)
        assert flight.pop("seconds") >= 0
        assert 0 <= flight.pop("hashed_bytes") <= flight["written_bytes"]
        assert 0 < flight.pop("written_bytes") <= len(body) // 2 + 1
        assert flight == {
            "resource": path[1:],
            "size_bytes": len(body),
            "storage_server": site.upstream.url,
            "readers": 1,
        }
        answer = await site.client.delete(f"/admin/cache{path}", auth=ADMIN)
        assert (answer.status_code, answer.text) == (409, f"{path[1:]} is being downloaded\n")
        release.set()
        await site.settle()
    assert path in site.cached
    assert await flights_of(site, path) == []


async def test_a_download_that_has_found_no_server_yet_is_listed_too(serve: Serve, sample: Sample) -> None:
    path = sample.artifact.path
    site = await serve(
        files=sample.files,
        script={("HEAD", path): Behaviour(never_answer=True)},
        JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=TOKEN_SHA256,
    )
    async with connected(site.port) as raw:
        await raw.ask(path)
        await until(lambda: site.library.downloads.flights)
        (flight,) = await flights_of(site, path)
        assert (flight["storage_server"], flight["size_bytes"], flight["readers"]) == (None, None, 0)


async def test_a_verification_runs_behind_and_is_reported(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    url = "/admin/cache/verify"
    assert (await site.client.get(url, auth=ADMIN)).json()["status"] == "never"
    file = site.root / "cache" / path[1:]
    file.write_bytes(b"damaged")
    began = await site.client.post(url, auth=ADMIN)
    assert (began.status_code, began.headers["Cache-Control"]) == (202, "no-store")
    report = began.json()
    while report["status"] == "running":
        report = (await site.client.get(url, auth=ADMIN)).json()
    assert (report["status"], report["wrong"], report["moved_to_quarantine"]) == ("done", 1, 1)
    assert not file.exists()
    assert (await site.client.get(path)).content == sample.files[path]


async def test_only_one_verification_runs_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = trio.Event()

    async def survey(_: object) -> None:
        await gate.wait()
        raise OSError("not this time")

    monkeypatch.setattr("pkgserver_trio.verifying.Verification.survey", survey)
    url = "/admin/cache/verify"
    answers = [await site.client.post(url, auth=ADMIN) for _ in range(2)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "running"), (409, "running")]
    gate.set()
    report = answers[0].json()
    while report["status"] == "running":
        report = (await site.client.get(url, auth=ADMIN)).json()
    assert (report["status"], report["error"]) == ("failed", "not this time")


CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.mark.parametrize(
    "headers", [CROSS_SITE, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
async def test_a_page_of_another_site_changes_nothing_with_a_browsers_credentials(
    site: Site, sample: Sample, headers: dict[str, str]
) -> None:
    path = sample.artifact.path
    await site.warm(path)
    with capture_logs() as lines:
        for method, url in (("POST", "/admin/cache/verify"), ("DELETE", f"/admin/cache{path}"), ("PUT", "/admin")):
            answer = await site.client.request(method, url, auth=ADMIN, headers=headers)
            assert (answer.status_code, answer.headers["Cache-Control"]) == (403, "no-store")
    told = [line["path"] for line in lines if line["event"] == "admin request of another site refused"]
    assert told == ["/admin/cache/verify", f"/admin/cache{path}", "/admin"]
    assert path in site.cached
    report = await site.client.get("/admin/cache/verify", auth=ADMIN, headers=headers)
    assert (report.status_code, report.json()["status"]) == (200, "never")


async def test_whether_the_password_is_right_is_said_before_where_the_request_comes_from(site: Site) -> None:
    answer = await site.client.post("/admin/cache/verify", auth=WRONG, headers=CROSS_SITE)
    assert answer.status_code == 401


@pytest.mark.parametrize("fetch_site", ["same-origin", "none"])
async def test_what_a_browser_does_for_its_own_user_is_done(site: Site, sample: Sample, fetch_site: str) -> None:
    path = sample.artifact.path
    await site.warm(path)
    headers = {"Sec-Fetch-Site": fetch_site, "Origin": f"http://127.0.0.1:{site.port}"}
    assert (await site.client.delete(f"/admin/cache{path}", auth=ADMIN, headers=headers)).status_code == 204


async def test_every_request_of_a_connection_needs_the_password(site: Site) -> None:
    async with connected(site.port) as raw:
        for line, status in (("Authorization: Basic YWRtaW46czNjcjN0", 200), ("X: none", 401)):
            await raw.ask("/admin", line)
            head = await raw.head()
            assert head.status == status
            await raw.exactly(int(head.headers["content-length"]))

"""The pure parts of the mirror: lists of buckets, keys, freshness, digests and heads."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from pkgserver_trio.mirror.crc import CRC_BYTES, load_functions
from pkgserver_trio.mirror.freshness import Freshness, freshness_of
from pkgserver_trio.mirror.object_digest import Digest, DigestHasher, digest_of
from pkgserver_trio.mirror.object_head import MAX_TOLD_BYTES, ObjectHead, told_headers
from pkgserver_trio.mirror.object_path import HostileKeyError, ObjectName, canonical_key, check_key, split_object_path
from pkgserver_trio.settings import Settings, SettingsError
from pkgserver_trio.settings.buckets import Bucket, is_pointer, parse_buckets, parse_patterns

NAME = ObjectName("bucket", "key")
CONTENT = b"content"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def test_buckets_are_separated_by_commas_or_blanks_and_have_defaults() -> None:
    assert parse_buckets(" julialang2, own=http://[::1]:9000/a/b/;ttl=5\tnightly;ttl=0 ") == (
        Bucket("julialang2", "https://julialang2.s3.amazonaws.com", 3600),
        Bucket("own", "http://[::1]:9000/a/b", 5),
        Bucket("nightly", "https://nightly.s3.amazonaws.com", 0),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" , ", "no bucket"),
        ("aaa aaa", "aaa is there twice"),
        ("A_B", "'A_B' is no name of a bucket"),
        ("ab", "'ab' is no name"),
        ("aaa;ttl=x", "'ttl=x'"),
        ("aaa;max=3", "'max=3'"),
        ("aaa;ttl=1;ttl=2", "two ttls"),
        ("aaa;ttl=999999999", "more than 31536000"),
        ("aaa=ftp://host", "the URL of aaa"),
        ("aaa=http://host?x", "the URL of aaa"),
        ("aaa=http://host/../x", "the URL of aaa"),
        ("aaa=http://host//x", "the URL of aaa"),
        ("aaa=http://host:0", "port"),
        ("aaa=http://host:99999", "port"),
        ("aaa=", "the URL of aaa"),
        (f"{'x' * 70}", "'...' is no name"),
        (" ".join(f"bucket{number}" for number in range(101)), "more than 100"),
    ],
)
def test_a_wrong_bucket_is_named_with_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping({"PKGSERVER_MIRROR_BUCKETS": text or " "})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_url_of_a_bucket_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping({"PKGSERVER_MIRROR_BUCKETS": "aaa=https://user:secret@host"})
    assert "secret" not in str(caught.value)
    assert "credentials" in str(caught.value)


def test_pointers_are_told_by_patterns() -> None:
    patterns = parse_patterns("bin/versions.json, *CHANNELVERSION")
    assert is_pointer("bin/versions.json", patterns)
    assert is_pointer("juliaup/RELEASECHANNELVERSION", patterns)
    assert not is_pointer("bin/versions.json.asc", patterns)
    assert Settings.from_mapping({"PKGSERVER_MIRROR_POINTERS": "none"}).mirror_pointers == ()
    for text in ('"x"', ",,"):
        with pytest.raises(SettingsError, match="pattern"):
            Settings.from_mapping({"PKGSERVER_MIRROR_POINTERS": text})


@pytest.mark.parametrize("key", ["a", "a/b", "a%20b+c", "a%2Fb", "%C3%BC", "a/", ".a/..b", "x" * 1024, "%41" * 1024])
def test_keys_that_an_object_can_have_pass(key: str) -> None:
    check_key(key)


HOSTILE = ["", "/", "//a", "a//b", ".", "a/..", "../a", "%2e%2e/a", "a%2f%2e%2e%2fb", "a\\b", "a%5Cb", "a%00", "a%0a"]


@pytest.mark.parametrize(
    "key", [*HOSTILE, "a%2", "a%zz", "a b", "ü", "a#b", 'a"', "x" * 1025, "%41" * 1025, "x" * 9000]
)
def test_hostile_keys_are_refused(key: str) -> None:
    with pytest.raises(HostileKeyError):
        check_key(key)


def test_paths_are_split_at_the_bucket() -> None:
    assert split_object_path("/mirror/b/a/c%20") == ("b", "a/c%20")
    assert split_object_path("/mirror/b") == ("b", "")
    assert split_object_path("/mirrors/b/a") is None
    assert NAME.path == "/mirror/bucket/key"
    assert canonical_key("a+b%2Fc%c3%bc~") == "a%2Bb/c%C3%BC~"


def seconds(cache_control: str = "", **others: str) -> float:
    headers = {**others, **({"cache-control": cache_control} if cache_control else {})}
    return freshness_of(headers, ttl_seconds=100, pointer=False).seconds


def test_an_origin_says_how_long_an_object_is_fresh() -> None:
    date, later = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT"
    assert seconds() == 100
    assert seconds(age="30") == 70
    assert seconds("public, max-age=50") == 50
    assert seconds("max-age=50, s-maxage=40") == 40
    assert seconds('max-age="50"', age="20") == 30
    assert seconds("max-age=50", age="60") == 0
    assert seconds("max-age=x") == 0
    assert seconds("max-age=99999999999999") == 31_536_000
    assert seconds("no-cache, max-age=50") == 0
    assert seconds(expires=later, date=date) == 30
    assert seconds(expires=date, date=later) == 0
    assert seconds(expires="0", date=date) == 0
    assert seconds(expires=later) == 0
    assert seconds("max-age=5, max-age=9") == 5


def test_what_may_not_be_kept_or_served_late_is_told() -> None:
    def assess(**headers: str) -> Freshness:
        return freshness_of(
            {name.replace("_", "-"): text for name, text in headers.items()}, ttl_seconds=1, pointer=False
        )

    assert not assess(cache_control="No-Store").kept
    assert not assess(cache_control='private="x, y"').kept
    assert not assess(set_cookie="a").kept
    assert assess(cache_control="public") == Freshness(kept=True, seconds=1, may_lag=True, may_outlive=True)
    strict = assess(cache_control="must-revalidate")
    assert (strict.may_lag, strict.may_outlive) == (False, False)
    pointer = freshness_of({}, ttl_seconds=1000, pointer=True)
    assert pointer == Freshness(kept=True, seconds=60, may_lag=False, may_outlive=True)


def b64(value: bytes) -> str:
    return b64encode(value).decode()


def test_the_strongest_digest_that_can_be_checked_is_taken() -> None:
    sha256 = hashlib.sha256(CONTENT)
    both = {"etag": f'"{MD5}"', "x-amz-checksum-sha256": b64(sha256.digest())}
    assert digest_of(both) == Digest("sha256", sha256.hexdigest())
    several = {"etag": f'"{MD5}-2"', "x-amz-checksum-crc32": "AAAAAQ==", "x-amz-checksum-md5": b64(b"x" * 16)}
    assert digest_of(several) == Digest("md5", b"x".hex() * 16)
    del several["x-amz-checksum-md5"]
    assert digest_of(several) == Digest("crc32", "00000001")
    assert digest_of({"etag": f'"{MD5}"'}) == Digest("md5", MD5)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"etag": f'W/"{MD5}"'},
        {"etag": f'"{MD5}-3"'},
        {"etag": f'"{MD5}"', "x-amz-server-side-encryption": "aws:kms"},
        {"etag": f'"{MD5}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
        {"x-amz-checksum-sha256": "YWJj-3"},
        {"x-amz-checksum-sha256": "YWJj"},
        {"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-crc32": "YWJjZA=="},
        {"x-amz-checksum-xxhash64": "YWJjZGVmZ2g="},
    ],
)
def test_what_is_no_digest_of_the_content_is_not_taken_for_one(headers: dict[str, str]) -> None:
    assert digest_of(headers) is None


@pytest.mark.parametrize(
    "digest",
    [
        None,
        Digest("md5", MD5),
        Digest("sha1", hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()),
        Digest("sha256", hashlib.sha256(CONTENT).hexdigest()),
        Digest("sha512", hashlib.sha512(CONTENT).hexdigest()),
    ],
)
def test_digests_tell_right_bytes_from_wrong_ones(digest: Digest | None) -> None:
    right, wrong = DigestHasher(digest), DigestHasher(digest)
    assert [*right.steps(CONTENT[:3]), *right.steps(CONTENT[3:])] == [3, 4]
    assert right.find_fault() is None
    assert list(wrong.steps(b"other")) == [5]
    assert (wrong.find_fault() is None) is (digest is None)


# The check values of the CRC catalogue: https://reveng.sourceforge.io/crc-catalogue/
@pytest.mark.parametrize(
    ("algorithm", "value"), [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")]
)
def test_cyclic_redundancy_checks_are_those_that_s3_means(algorithm: str, value: str) -> None:
    if algorithm not in CRC_BYTES:
        pytest.skip("anycrc is optional, and not installed")
    right, wrong = (DigestHasher(Digest(algorithm, value)) for _ in range(2))
    assert [*right.steps(b"1234"), *right.steps(b""), *right.steps(b"56789")] == [4, 0, 5]
    assert right.find_fault() is None
    assert list(wrong.steps(b"123456798")) == [9]
    assert str(wrong.find_fault()).startswith(f"sent bytes whose {algorithm} is ")


def test_without_its_library_a_check_is_not_computed() -> None:
    assert list(load_functions("no_such_library")) == ["crc32"]


def test_clients_are_told_what_belongs_to_the_object_and_nothing_else() -> None:
    said = {
        "server": "AmazonS3",
        "x-amz-request-id": "1",
        "set-cookie": "a",
        "etag": '"e"',
        "x-amz-meta-a": "b",
        "x-amz-meta-long": "x" * MAX_TOLD_BYTES,
        "x-amz-meta-bad name": "x",
        "x-amz-meta-bad": "a\nb",
        "content-type": "text/plain",
    }
    assert told_headers(said.items()) == {"etag": '"e"', "x-amz-meta-a": "b", "content-type": "text/plain"}


def head(size: int | None = 3, **told: str) -> ObjectHead:
    return ObjectHead.of({name.replace("_", "-"): text for name, text in told.items()}, size)


def test_versions_are_told_apart_by_tags_else_by_dates_and_sizes() -> None:
    assert head(etag='"a"', last_modified="x").is_same_version(head(None, etag='"a"', last_modified="y"))
    assert not head(etag='"a"').is_same_version(head(etag='"b"'))
    assert not head(3, etag='"a"').is_same_version(head(4, etag='"a"'))
    assert head(last_modified="x").is_same_version(head(last_modified="x"))
    assert not head(last_modified="x").is_same_version(head(last_modified="y"))
    assert head(etag='"a"').resource(NAME) != head(etag='"b"').resource(NAME)
    assert head(3, last_modified="x").resource(NAME) != head(4, last_modified="x").resource(NAME)
    assert head(etag='"a"').resource(NAME) != head(etag='"a"').resource(ObjectName("bucket", "other"))
    assert (head(etag='W/"a"').strong_etag, head(etag='"a"').strong_etag, head().strong_etag) == (None, '"a"', None)
    assert [head().has_validator, head(etag='"a"').has_validator, head(last_modified="x").has_validator] == [
        False,
        True,
        True,
    ]


def test_a_head_survives_being_written_and_is_renewed_by_a_304() -> None:
    written = head(etag=f'"{MD5}"', cache_control="max-age=1", content_type="a/b")
    assert ObjectHead.load(written.dump()) == written
    assert ObjectHead.load(head(None).dump()) == head(None)
    renewed = written.renewed({"cache-control": "max-age=2", "content-type": "c/d", "etag": '"x"'})
    assert renewed.told == {**written.told, "cache-control": "max-age=2"}

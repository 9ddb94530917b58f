from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.slow_parsers import names

from pkgserver_trio.resource import Form, Kind, Resource, parse_artifact_toml_path, tag_of, tags_of

UUID = "23338594-aafe-5451-b93e-139f81909106"
HASH = "0123456789abcdef0123456789abcdef01234567"
REGISTRY = Resource(Kind.REGISTRY, HASH, UUID)
PACKAGE = Resource(Kind.PACKAGE, HASH, UUID)
ARTIFACT = Resource(Kind.ARTIFACT, HASH)

uuids = st.uuids().map(str)
tree_hashes = st.binary(min_size=20, max_size=20).map(bytes.hex)
resources = st.one_of(
    st.builds(Resource, st.sampled_from([Kind.REGISTRY, Kind.PACKAGE]), tree_hashes, uuids, st.sampled_from(Form)),
    st.builds(Resource, st.just(Kind.ARTIFACT), tree_hashes, st.none(), st.sampled_from(Form)),
)


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (f"/registry/{UUID}/{HASH}", REGISTRY),
        (f"/package/{UUID}/{HASH}", PACKAGE),
        (f"/artifact/{HASH}", ARTIFACT),
    ],
)
def test_each_kind_has_one_path_and_the_file_name_is_that_path(path: str, resource: Resource) -> None:
    assert Resource.parse(path) == resource
    assert resource.path == path
    assert resource.name == path[1:]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/registries",
        f"/artifact/{HASH}/",
        f"/artifact/{HASH}\n",
        f"/artifact/{HASH}?x=1",
        f"//artifact/{HASH}",
        f" /artifact/{HASH}",
        f"artifact/{HASH}",
        f"/artifact/{HASH}0",
        f"/artifact/{HASH[1:]}",
        f"/artifact/{HASH.upper()}",
        f"/artifact/{UUID}/{HASH}",
        f"/%61rtifact/{HASH}",
        f"/artifact/%30{HASH[1:]}",
        "/artifact/" + "\u0660" * 40,
        f"/package/{HASH}",
        f"/package//{HASH}",
        f"/package/{UUID}//{HASH}",
        f"/package/{UUID.upper()}/{HASH}",
        f"/package/{UUID.replace('-', '')}/{HASH}",
        f"/package/{UUID}/../{UUID}/{HASH}",
        f"/Package/{UUID}/{HASH}",
        f"/packages/{UUID}/{HASH}",
    ],
)
def test_a_path_that_is_not_exactly_a_resource_is_none(path: str) -> None:
    assert Resource.parse(path) is None


@given(st.one_of(st.text(), st.from_regex(r"/?(registry|package|artifact)/[0-9a-f/-]{30,90}\s?"), resources.map(str)))
def test_parse_never_raises_and_accepts_only_canonical_paths(path: str) -> None:
    resource = Resource.parse(path)
    assert resource is None or resource.path == path


segments = st.sampled_from(
    [
        "",
        "registry",
        "package",
        "artifact",
        UUID,
        HASH,
        UUID[:-1],
        HASH + "0",
        HASH.upper(),
        "..",
        ".",
        "%2e",
        "\n",
        "\0",
    ]
)


@given(st.lists(segments, max_size=5).map("/".join) | st.lists(segments, max_size=4).map(lambda x: "/" + "/".join(x)))
def test_exactly_the_grammar_is_accepted(path: str) -> None:
    resource = Resource.parse(path)
    assert (resource and (resource.kind, resource.uuid, resource.tree_hash)) == names(path)


@given(resources)
def test_parse_inverts_path(resource: Resource) -> None:
    parsed = Resource.parse(resource.path)
    assert parsed is not None
    assert (parsed.kind, parsed.uuid, parsed.tree_hash) == (resource.kind, resource.uuid, resource.tree_hash)


@given(resources)
def test_unpack_inverts_pack(resource: Resource) -> None:
    assert Resource.unpack(resource.pack()) == resource


@given(resources, resources)
def test_two_resources_never_share_a_key_or_a_file_name(one: Resource, other: Resource) -> None:
    assert (one.pack() == other.pack()) == (one.name == other.name) == (one == other)


def test_a_key_is_one_digit_longer_than_what_it_names() -> None:
    assert len(f"{ARTIFACT.pack():x}") == 1 + 40
    assert len(f"{PACKAGE.pack():x}") == 1 + 32 + 40


def test_the_tag_of_a_key_tells_its_kind() -> None:
    tags = [tag for kind in Kind for tag in tags_of(kind)]
    assert sorted(tags) == sorted(set(tags))
    assert set(tags) <= set(range(1, 16))
    for resource in (ARTIFACT, PACKAGE, Resource(Kind.REGISTRY, "0" * 40, UUID), Resource(Kind.ARTIFACT, "f" * 40)):
        assert tag_of(resource.pack()) in tags_of(resource.kind)


@pytest.mark.parametrize(("kind", "uuid"), [(Kind.REGISTRY, None), (Kind.PACKAGE, None), (Kind.ARTIFACT, UUID)])
def test_a_uuid_that_does_not_fit_the_kind_is_refused(kind: Kind, uuid: str | None) -> None:
    with pytest.raises(ValueError, match="has a uuid"):
        Resource(kind, HASH, uuid)


@pytest.mark.parametrize("name", ["Foo", "a", ".", "..", "libfoo-1.2+3_x86", "A" * 128])
def test_an_artifact_toml_path_names_the_artifact_and_its_key(name: str) -> None:
    assert parse_artifact_toml_path(f"/artifact/{HASH}/{name}") == (ARTIFACT, name)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "%61", "é", "a\n", '"', "A" * 129])
def test_a_name_outside_the_alphabet_is_no_artifact_toml_path(name: str) -> None:
    assert parse_artifact_toml_path(f"/artifact/{HASH}/{name}") is None


@given(st.one_of(st.text(), st.from_regex(rf"/artifact/{HASH}/.*")))
def test_an_artifact_toml_path_is_anchored(path: str) -> None:
    parsed = parse_artifact_toml_path(path)
    if parsed is not None:
        resource, name = parsed
        assert f"{resource.path}/{name}" == path
        assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,128}", name)

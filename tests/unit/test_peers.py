from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.web.forwarded import MAX_HOPS
from pkgserver_trio.web.peers import is_trusted, peer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TRUSTED = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def peer(address: str | None, *forwarded: str, real_ip: str | None = None, rfc: str | None = None) -> str:
    headers = [(b"x-forwarded-for", text.encode("latin-1")) for text in forwarded]
    headers += [(b"x-real-ip", real_ip.encode("latin-1"))] if real_ip is not None else []
    headers += [(b"forwarded", rfc.encode("latin-1"))] if rfc is not None else []
    return peer_of(address, headers, TRUSTED)


def test_a_stranger_speaks_for_himself_only() -> None:
    assert peer("192.0.2.1", "198.51.100.1", real_ip="198.51.100.2", rfc="for=198.51.100.3") == "192.0.2.1"


def test_what_a_stranger_says_is_not_even_read() -> None:
    def read() -> Iterator[tuple[bytes, bytes]]:
        pytest.fail("it was read")
        yield b"forwarded", b"," * 32_000

    assert peer_of("203.0.113.1", read(), TRUSTED) == "203.0.113.1"


def test_no_more_lines_are_read_than_there_are_hops() -> None:
    lines = [(b"forwarded", b"for=192.0.2.1"), *[(b"forwarded", b"for=127.0.0.1")] * MAX_HOPS]
    assert peer_of("127.0.0.1", lines, TRUSTED) == "127.0.0.1"
    assert peer_of("127.0.0.1", lines[:-1], TRUSTED) == "192.0.2.1"


def test_a_trusted_proxy_is_believed() -> None:
    assert peer("127.0.0.1", "192.0.2.1") == "192.0.2.1"
    assert peer("127.0.0.1", real_ip="192.0.2.1") == "192.0.2.1"
    assert peer("127.0.0.1", rfc="for=192.0.2.1;proto=https") == "192.0.2.1"
    assert peer("127.0.0.1", rfc='for="[2001:db8::1]:443"') == "2001:db8::/64"


def test_without_a_word_the_proxy_is_the_peer() -> None:
    assert peer("10.0.0.1") == "10.0.0.1"
    assert peer("10.0.0.1", "") == "10.0.0.1"


@pytest.mark.parametrize(
    "forwarded",
    [
        ("203.0.113.9, 192.0.2.1",),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2",),
        ("203.0.113.9", "192.0.2.1", "10.0.0.3, 10.0.0.2"),
        ("10.9.9.9, 192.0.2.1",),
        ("nonsense, 192.0.2.1 ,10.0.0.2",),
    ],
)
def test_the_nearest_hop_that_is_not_trusted_is_the_peer(forwarded: tuple[str, ...]) -> None:
    assert peer("10.0.0.1", *forwarded) == "192.0.2.1"


def test_the_farthest_hop_is_the_peer_when_all_are_trusted() -> None:
    assert peer("127.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize("nonsense", ["unknown", "_hidden", "", "1.2.3", "1.2.3.4.5", "\xff", "[", "a" * 999])
def test_nonsense_ends_what_is_believed(nonsense: str) -> None:
    assert peer("127.0.0.1", f"192.0.2.1, {nonsense}, 10.0.0.2") == "10.0.0.2"


@pytest.mark.parametrize(
    ("forwarded", "rfc", "real_ip"),
    [
        ("192.0.2.1", "for=192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", None, "10.0.0.2"),  # the second proxy sees the first
        ("192.0.2.1, 10.0.0.2", None, "192.0.2.1"),  # or hands on what that one has seen
        ("192.0.2.9, 192.0.2.1", "for=192.0.2.8, for=192.0.2.1", "192.0.2.1"),
        ("10.0.0.2", "for=192.0.2.1, for=10.0.0.2", None),
        ("", "for=192.0.2.1", None),
    ],
)
def test_headers_that_agree_are_believed(forwarded: str, rfc: str | None, real_ip: str | None) -> None:
    assert peer("10.0.0.1", forwarded, rfc=rfc, real_ip=real_ip) == "192.0.2.1"


def test_of_a_trusted_client_the_header_with_the_most_hops_tells() -> None:
    assert peer("10.0.0.1", "10.0.0.4, 10.0.0.3", rfc="for=10.0.0.3", real_ip="10.0.0.2") == "10.0.0.4"


FORGED = ("192.0.2.9", "10.9.9.9, 192.0.2.9", "2001:db8::9", "192.0.2.9, nonsense", "unknown", "")


@pytest.mark.parametrize("forged", [*FORGED, "for=192.0.2.9", 'for="192.0.2.9', 'for="[2001:db8::9]"', "for=unknown"])
@pytest.mark.parametrize("true", ["192.0.2.1", "unknown"])
@pytest.mark.parametrize("written_by_the_proxy", ["x-forwarded-for", "forwarded", "x-real-ip"])
@pytest.mark.parametrize("handed_on", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_what_a_proxy_hands_on_of_its_client_never_counts_beside_what_it_says(
    forged: str, true: str, written_by_the_proxy: str, handed_on: str
) -> None:
    said = f"for={true}" if written_by_the_proxy == "forwarded" else true
    headers = [(handed_on.encode(), forged.encode()), (written_by_the_proxy.encode(), said.encode())]
    assert peer_of("10.0.0.1", headers, TRUSTED) in {true, "10.0.0.1"}


@pytest.mark.parametrize(
    "written", ["2001:db8::1", "2001:db8::ffff", "[2001:db8::1]", "[2001:db8::1]:443", "2001:DB8::2%eth0"]
)
def test_an_ipv6_client_is_its_network(written: str) -> None:
    assert peer("127.0.0.1", written) == "2001:db8::/64"
    assert peer("fd00::1", written) == "2001:db8::/64"


def test_an_ipv4_address_is_the_same_in_every_notation() -> None:
    assert peer("::ffff:127.0.0.1", "192.0.2.1:8080") == "192.0.2.1"
    assert peer("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize("address", [None, "", "a socket's path"])
def test_what_has_no_address_has_no_name(address: str | None) -> None:
    assert peer(address, "192.0.2.1") == ""


@given(st.text(st.characters(max_codepoint=255)), st.ip_addresses())
def test_no_stranger_forges_a_peer(forged: str, address: object) -> None:
    if not any(ip_address(str(address)) in network for network in TRUSTED):
        assert peer(str(address), forged, real_ip=forged, rfc=forged) == peer(str(address))


@given(st.text(st.characters(max_codepoint=255)))
def test_a_peer_is_a_plain_word_whatever_is_forwarded(forwarded: str) -> None:
    for said in (peer("127.0.0.1", forwarded), peer("127.0.0.1", rfc=f"for={forwarded}")):
        assert set(said) <= set("0123456789abcdef.:/")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("127.0.0.1", True), ("::ffff:10.1.1.1", True), ("fd00::1", True)),
        *(("192.0.2.1", False), ("::1", False), (None, False), ("", False), ("a socket's path", False)),
    ],
)
def test_trust_is_a_matter_of_the_socket_alone(address: str | None, expected: bool) -> None:  # noqa: FBT001 # a table's column
    assert is_trusted(address, TRUSTED) == expected

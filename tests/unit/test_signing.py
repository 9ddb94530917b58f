"""Credentials of buckets: where they come from, and that none is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from pkgserver_trio.mirror.signing import CredentialsChain, ObjectCredentials
from pkgserver_trio.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "envsecret", "AWS_REGION": "eu-west-1"}


def signed(chain: CredentialsChain, bucket: str) -> httpx.Headers:
    """Return the headers of a request; those of one that nobody signed have no Authorization."""
    auth = chain.signer(bucket) or httpx.Auth()
    return next(auth.auth_flow(httpx.Request("GET", "https://host/key"))).headers


def test_without_any_credentials_everything_is_asked_anonymously() -> None:
    assert "Authorization" not in signed(CredentialsChain(None, {}), "bucket")


def test_the_environment_signs_for_all_buckets() -> None:
    headers = signed(CredentialsChain(None, {**ENVIRONMENT, "AWS_SESSION_TOKEN": "token"}), "bucket")
    assert "Credential=ENVKEY/" in headers["Authorization"]
    assert "/eu-west-1/s3/aws4_request" in headers["Authorization"]
    assert headers["x-amz-security-token"] == "token"


def test_a_profile_of_the_bucket_wins_then_the_default_then_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    own = "[own]\naws_access_key_id = OWN\naws_secret_access_key = s\nregion = r\n[public]\n"
    path.write_text(own)
    chain = CredentialsChain(str(path), ENVIRONMENT)
    assert "Credential=OWN/" in signed(chain, "own")["Authorization"]
    assert "Authorization" not in signed(chain, "public")
    assert "Credential=ENVKEY/" in signed(chain, "other")["Authorization"]
    path.write_text(f"{own}[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n")
    assert "Credential=DEFAULT/" in signed(CredentialsChain(str(path), ENVIRONMENT), "other")["Authorization"]


@pytest.mark.parametrize(
    "text", ["[a]\naws_access_key_id=KEY", "[a]\naws_secret_access_key=hidden", "hidden", "\udcff"]
)
def test_a_wrong_file_is_named_and_its_secrets_are_not(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match="credentials") as caught:
        CredentialsChain(str(path), {})
    assert "hidden" not in str(caught.value)


def test_half_a_pair_in_the_environment_is_named_as_it_is_called_there() -> None:
    with pytest.raises(SettingsError, match="the environment has no AWS_SECRET_ACCESS_KEY"):
        CredentialsChain(None, {"AWS_ACCESS_KEY_ID": "KEY"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        CredentialsChain(str(tmp_path / "none"), {})


def test_credentials_hide_their_secrets() -> None:
    assert "hidden" not in repr(ObjectCredentials("key", "hidden", "hidden"))

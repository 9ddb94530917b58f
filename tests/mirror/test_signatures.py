"""The server's mirror before an S3 API server that looks at signatures."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from tests.integration.zipapp import running_zipapp
from tests.mirror.origins import BUCKET, KEYS, Origin, running_origin
from tests.mirror.targets import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 800
_SCOPE: Final = "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"
_MAY_READ: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}],
}


class AccessManagement:
    """The part of an S3 API server that knows users, and for whom it looks at signatures from now on."""

    def __init__(self, origin: Origin) -> None:
        self._root = httpx.URL(origin.url).copy_with(path="/")

    def add_reader(self, name: str) -> tuple[str, str]:
        """Return the access key and the secret key of a new user, who may read the bucket."""
        self._call("CreateUser", UserName=name)
        self._call("PutUserPolicy", UserName=name, PolicyName="read", PolicyDocument=json.dumps(_MAY_READ))
        told = self._call("CreateAccessKey", UserName=name)
        keys = [re.findall(f"<{part}>(.+?)</{part}>", told) for part in ("AccessKeyId", "SecretAccessKey")]
        return keys[0][0], keys[1][0]

    def look_at_signatures(self) -> None:
        self._post(self._root.join("/moto-api/reset-auth"), content=b"0")

    def _call(self, action: str, **fields: str) -> str:
        return self._post(self._root, data={"Action": action, "Version": "2010-05-08", **fields})

    def _post(self, url: httpx.URL, content: bytes | None = None, data: Mapping[str, str] | None = None) -> str:
        answer = httpx.post(url, content=content, data=data, headers={"Authorization": _SCOPE}, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a mirror of one bucket under three names: asked with right signatures, with wrong ones, and with none."""
    folder = tmp_path_factory.mktemp("signatures")
    with running_origin("moto", folder / "origin") as origin:
        for key in KEYS:
            origin.put(key, BODY + key.encode(), private=True)
        management = AccessManagement(origin)
        key, secret = management.add_reader("mirror")
        management.look_at_signatures()
        pair = "[{}]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
        credentials = folder / "credentials"
        credentials.write_text(pair.format("signed", key, secret) + pair.format("forged", key, secret[::-1]))
        settings = {
            "JULIA_PKG_SERVER_STORAGE_SERVERS": "http://127.0.0.1:9",
            "PKGSERVER_MIRROR_BUCKETS": " ".join(f"{name}={origin.url}" for name in ("signed", "forged", "nobody")),
            "PKGSERVER_MIRROR_CREDENTIALS_FILE": str(credentials),
        }
        with running_zipapp(folder, settings) as server:
            yield f"{server.url}/mirror"


def get(mirror: str, bucket: str, key: str, **headers: str) -> httpx.Response:
    url = f"{mirror}/{bucket}/{KEYS[key]}"
    return httpx.get(url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)


@pytest.mark.parametrize("key", KEYS)
def test_a_right_signature_opens_what_is_private_whatever_it_is_called(mirror: str, key: str) -> None:
    part = get(mirror, "signed", key, Range="bytes=1-3")  # not held yet: passed through
    assert (part.status_code, part.content) == (206, BODY[1:4])
    whole = get(mirror, "signed", key)
    assert (whole.status_code, whole.content == BODY + key.encode()) == (200, True)


@pytest.mark.parametrize("bucket", ["forged", "nobody"])
def test_a_wrong_signature_and_none_open_nothing(mirror: str, bucket: str) -> None:
    for key in KEYS:
        assert get(mirror, bucket, key).status_code == 403
        assert get(mirror, bucket, key, Range="bytes=1-3").status_code == 403

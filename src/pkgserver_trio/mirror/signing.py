"""Who signs what is asked of a bucket's origin: the credentials of a file or of the usual environment, or nobody."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from httpx_auth import AWS4Auth

from pkgserver_trio.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_FILE: Final = "PKGSERVER_MIRROR_CREDENTIALS_FILE"
_DEFAULT_REGION: Final = "us-east-1"
_DEFAULT_PROFILE: Final = "default"
_NAMES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")


@dataclass(frozen=True, slots=True)
class ObjectCredentials:
    """An access key of S3, and the region that its signatures are for."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = _DEFAULT_REGION

    def signer(self) -> httpx.Auth:
        """Return what signs requests (Signature Version 4)."""
        token = {} if self.session_token is None else {"security_token": self.session_token}
        return AWS4Auth(self.access_key, self.secret_key, self.region, "s3", **token)


class CredentialsChain:
    """Credentials by bucket: of its own section of `path`, else of `default` there, else of `environment`."""

    def __init__(self, path: str | None, environment: Mapping[str, str]) -> None:
        self._profiles = {} if path is None else _read(path)
        self._from_environment = _credentials(
            {name.lower(): environment.get(name, "") for name in _NAMES}, "the environment", environment
        )

    def signer(self, bucket: str) -> httpx.Auth | None:
        """Return what signs requests to `bucket`; None: it is asked anonymously."""
        found = self._from_environment
        for profile in (_DEFAULT_PROFILE, bucket):
            found = self._profiles.get(profile, found)
        return None if found is None else found.signer()


def _read(path: str) -> dict[str, ObjectCredentials | None]:
    """Return the sections of a file in the format of AWS's shared credentials. Raises SettingsError."""
    parser = configparser.RawConfigParser(default_section="", strict=True)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{_FILE} is {path!r}, which cannot be read: {error.strerror}", _FILE) from None
    except (configparser.Error, UnicodeError) as error:  # whose text may quote a secret
        raise SettingsError(
            f"{_FILE} is {path!r}, which is no file of profiles: {type(error).__name__}", _FILE
        ) from None
    return {name: _credentials(dict(parser[name]), f"[{name}] in {path}", {}) for name in parser.sections()}


def _credentials(entries: Mapping[str, str], where: str, environment: Mapping[str, str]) -> ObjectCredentials | None:
    """Return what a section says; an empty one asks anonymously. Raises SettingsError for half of a pair."""
    key, secret = (entries.get(name, "").strip() for name in ("aws_access_key_id", "aws_secret_access_key"))
    if not key and not secret:
        return None
    if not key or not secret:
        missing = "aws_secret_access_key" if key else "aws_access_key_id"
        if environment:
            missing = missing.upper()
        raise SettingsError(f"{where} has no {missing}, and one is of no use without the other", _FILE)
    region = entries.get("region", "") or entries.get("aws_region", "") or environment.get("AWS_DEFAULT_REGION", "")
    token = entries.get("aws_session_token", "").strip()
    return ObjectCredentials(key, secret, token or None, region.strip() or _DEFAULT_REGION)

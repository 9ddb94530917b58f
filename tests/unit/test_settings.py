from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network

import pytest

from pkgserver_trio.settings import (
    RegistryChoice,
    Settings,
    all_settings,
    effective_texts,
    environment_warnings,
    misnamed,
)

GENERAL = "23338594-aafe-5451-b93e-139f81909106"
OTHER = "0fed4e60-1c94-4bd5-8a0e-3d1ff1c0f2a7"
SECRET = "s3cr3t"


def test_nothing_at_all_gives_the_documented_defaults() -> None:
    settings = Settings.from_mapping({})
    assert {field.name: getattr(settings, field.name) for field in fields(settings)} == {
        "listen": ("127.0.0.1", 8000),
        "storage_root": "/tmp/pkgserver",  # noqa: S108 - compared, not opened
        "storage_servers": ("https://us-east.storage.julialang.org", "https://kr.storage.julialang.org"),
        "logs_dir": "/tmp/pkgserver/logs",  # noqa: S108 - compared, not opened
        "fqdn": "pkg.julialang.org",
        "flavorless": False,
        "registry_update_period_seconds": 1,
        "admin_token_sha256": None,
        "mirror_buckets": (),
        "mirror_max_cache_bytes": 20 * 1024**3,
        "mirror_pointers": ("bin/versions.json", "bin/nightlies.json", "*CHANNELVERSION", "*CHANNELDBVERSION"),
        "mirror_stale_while_revalidate_seconds": 3600,
        "mirror_stale_if_error_seconds": 604_800,
        "mirror_credentials_file": None,
        "public_url": "https://pkg.julialang.org",
        "registries": (RegistryChoice(GENERAL, "https://github.com/JuliaRegistries/General"),),
        "origin_check": "required",
        "origin_tokens_file": None,
        "rollback_after_seconds": 3600.0,
        "keep_free_bytes": 3 * 1024**3,
        "max_cache_bytes": None,
        "connect_seconds": 5,
        "head_seconds": 5,
        "body_seconds": 5,
        "negative_seconds": 10,
        "max_downloads": 64,
        "max_connections": 10_000,
        "read_stall_seconds": 60,
        "request_head_seconds": 10,
        "graceful_seconds": 10,
        "drain_seconds": 10,
        "max_unpacked_bytes": 64 * 1024**3,
        "max_members": 5_000_000,
        "trusted_proxies": (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        "hit_logs": (),
        "log_level": "info",
        "log_format": "text",
        "ca_file": None,
        "siblings": (
            "https://us-west.pkg.julialang.org",
            "https://us-east.pkg.julialang.org",
            "https://sa.pkg.julialang.org",
            "https://eu-central.pkg.julialang.org",
            "https://in.pkg.julialang.org",
            "https://jp.pkg.julialang.org",
            "https://kr.pkg.julialang.org",
            "https://sg.pkg.julialang.org",
            "https://cn-southeast.pkg.julialang.org",
            "https://cn-east.pkg.julialang.org",
            "https://cn-northeast.pkg.julialang.org",
            "https://au.pkg.julialang.org",
        ),
    }


def test_settings_cannot_be_changed() -> None:
    settings = Settings.from_mapping({})
    with pytest.raises(FrozenInstanceError):
        settings.fqdn = "other.example"  # type: ignore[misc]  # what the test is about


def test_listen_address_has_a_host_and_a_port() -> None:
    settings = Settings.from_mapping({"JULIA_PKG_SERVER": "[::1]:0"})
    assert settings.listen == ("::1", 0)


def test_derived_defaults_follow_what_they_derive_from() -> None:
    settings = Settings.from_mapping(
        {"JULIA_PKG_SERVER_STORAGE_ROOT": "/data/", "JULIA_PKG_SERVER_FQDN": "Pkg.Example"}
    )
    assert (settings.storage_root, settings.logs_dir, settings.public_url) == (
        "/data",
        "/data/logs",
        "https://Pkg.Example",
    )


def test_a_braced_value_is_never_a_reference() -> None:
    settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_ROOT": "/{x}"})
    assert settings.logs_dir == "/{x}/logs"


@pytest.mark.parametrize("blank", ["", "  ", "\t\n"])
def test_blank_text_is_no_text(blank: str) -> None:
    assert Settings.from_mapping({"PKGSERVER_MAX_DOWNLOADS": blank}).max_downloads == 64


def test_other_programs_names_are_ignored() -> None:
    assert Settings.from_mapping({"PATH": "/bin", "PKGSERVER_UNHEARD_OF": "1"}) == Settings.from_mapping({})


def test_repr_holds_no_secret() -> None:
    settings = Settings.from_mapping(
        {
            "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256": "ab" * 32,
            "JULIA_PKG_SERVER_STORAGE_SERVERS": f"https://user:{SECRET}@host",
            "PKGSERVER_REGISTRIES": f"{OTHER}=https://user:{SECRET}@host",
        }
    )
    assert SECRET not in repr(settings)
    assert "abab" not in repr(settings)


def test_effective_texts_are_what_was_said_stripped_and_otherwise_the_default() -> None:
    texts = effective_texts({"PKGSERVER_KEEP_FREE": " 1GB ", "PKGSERVER_MAX_CACHE": " ", "OTHER": "1"})
    assert texts["PKGSERVER_KEEP_FREE"] == "1GB"
    assert texts["PKGSERVER_MAX_CACHE"] == "none"
    assert list(texts) == [setting.name for setting in all_settings()]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("PKGSERVER_MAX_CACHE", None),
        ("JULIA_PKG_SERVER", None),
        ("PATH", None),
        ("JULIA_DEPOT_PATH", None),
        ("PKGSERVER_MAX_CASHE", "PKGSERVER_MAX_CASHE is not a setting: did you mean PKGSERVER_MAX_CACHE?"),
        ("pkgserver_max_cache", "pkgserver_max_cache is not a setting: did you mean PKGSERVER_MAX_CACHE?"),
        (
            "JULIA_PKG_SERVER_MAX_CACHE",
            "JULIA_PKG_SERVER_MAX_CACHE is not a setting: did you mean PKGSERVER_MAX_CACHE?",
        ),
        ("PKGSERVER_FQDN", "PKGSERVER_FQDN is not a setting: did you mean JULIA_PKG_SERVER_FQDN?"),
        (
            "PKG_SERVER_STORAGE_ROOT",
            "PKG_SERVER_STORAGE_ROOT is not a setting: did you mean JULIA_PKG_SERVER_STORAGE_ROOT?",
        ),
        ("PKG_SERVER_FQDN", None),  # the deployment's, in the same file
        ("PKGSERVER_IMAGE", None),
        ("PKGSERVER_COLOUR", "PKGSERVER_COLOUR is not a setting"),
        ("JULIA_PKG_SERVER_REGISTRY_PREFERENCE", "JULIA_PKG_SERVER_REGISTRY_PREFERENCE is not a setting"),
    ],
)
def test_misnamed_says_what_was_probably_meant(name: str, line: str | None) -> None:
    assert misnamed(name) == line


def test_clients_variables_in_the_environment_are_no_mistake() -> None:
    assert environment_warnings(["JULIA_PKG_SERVER_REGISTRY_PREFERENCE", "JULIA_PKG_SERVER_TEAM", "HOME"]) == ()


def test_environment_warnings_are_sorted_and_leave_settings_out() -> None:
    names = ["PKGSERVER_ZZZ", "PKGSERVER_MAX_CACHE", "JULIA_PKG_SERVER_STORAGE_SERVER"]
    assert environment_warnings(names) == (
        "JULIA_PKG_SERVER_STORAGE_SERVER is not a setting: did you mean JULIA_PKG_SERVER_STORAGE_SERVERS?",
        "PKGSERVER_ZZZ is not a setting",
    )

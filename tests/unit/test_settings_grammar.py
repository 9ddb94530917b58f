from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.settings import AllRegistries, RegistryChoice, Setting, Settings, SettingsError, all_settings

GENERAL = "23338594-aafe-5451-b93e-139f81909106"
OTHER = "0fed4e60-1c94-4bd5-8a0e-3d1ff1c0f2a7"
SECRET = "s3cr3t"


def setting_of(name: str) -> Setting:
    return next(setting for setting in all_settings() if setting.name == name)


def value_of(name: str, text: str) -> object:
    return setting_of(name).parse(text)


def error_of(name: str, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_mapping({name: text})
    assert caught.value.name == name
    return str(caught.value)


RIGHT = [
    ("JULIA_PKG_SERVER", "0.0.0.0:8000", ("0.0.0.0", 8000)),
    ("JULIA_PKG_SERVER", "http://localhost:80/", ("localhost", 80)),
    ("JULIA_PKG_SERVER", "HTTPS://[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ("JULIA_PKG_SERVER_STORAGE_ROOT", "relative//folder", "relative/folder"),
    ("JULIA_PKG_SERVER_STORAGE_ROOT", "/", "/"),
    ("PKGSERVER_HIT_LOGS", "/logs/a, /logs//b/,/logs/a", ("/logs/a", "/logs/b")),
    ("PKGSERVER_HIT_LOGS", "None", ()),
    ("JULIA_PKG_SERVER_FQDN", "Pkg.Example:8443", "pkg.example:8443"),
    (
        "JULIA_PKG_SERVER_STORAGE_SERVERS",
        "https://a/, http://u:p@b:81/x/,https://a,",
        ("https://a", "http://u:p@b:81/x"),
    ),
    ("JULIA_PKG_SERVER_STORAGE_SERVERS", "http://[::1]:8080", ("http://[::1]:8080",)),
    ("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", "AB" * 32, "ab" * 32),
    ("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", "None", None),
    ("JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD", "0.5", 0.5),
    ("JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD", "600", 600),
    ("PKGSERVER_PUBLIC_URL", "https://pkg.example/julia/", "https://pkg.example/julia"),
    ("PKGSERVER_REGISTRIES", "*", AllRegistries.ALL),
    ("PKGSERVER_REGISTRIES", OTHER.upper(), (RegistryChoice(OTHER, None),)),
    (
        "PKGSERVER_REGISTRIES",
        f"{OTHER}, {GENERAL}=https://git.example/General/",
        (RegistryChoice(OTHER, None), RegistryChoice(GENERAL, "https://git.example/General")),
    ),
    (
        "PKGSERVER_REGISTRIES",
        f"{OTHER}=GitLab+https://git.example/group/x",
        (RegistryChoice(OTHER, "gitlab+https://git.example/group/x"),),
    ),
    ("PKGSERVER_KEEP_FREE", "0", 0),
    ("PKGSERVER_KEEP_FREE", "12", 12),
    ("PKGSERVER_KEEP_FREE", "12 B", 12),
    ("PKGSERVER_KEEP_FREE", "500MB", 500_000_000),
    ("PKGSERVER_KEEP_FREE", "2 kib", 2048),
    ("PKGSERVER_MAX_CACHE", "1TB", 10**12),
    ("PKGSERVER_MAX_CACHE", "1024PiB", 2**60),
    ("PKGSERVER_MAX_CACHE", "none", None),
    ("PKGSERVER_MAX_DOWNLOADS", "1", 1),
    ("PKGSERVER_TRUSTED_PROXIES", "10.0.0.1, fd00::/8", (ip_network("10.0.0.1/32"), ip_network("fd00::/8"))),
    ("PKGSERVER_TRUSTED_PROXIES", "none", ()),
    ("PKGSERVER_LOG_LEVEL", "WARNING", "warning"),
    ("PKGSERVER_LOG_FORMAT", "json", "json"),
    ("PKGSERVER_CA_FILE", "/etc/ca.pem", "/etc/ca.pem"),
    ("PKGSERVER_SIBLINGS", "https://a/,http://b", ("https://a", "http://b")),
    ("PKGSERVER_SIBLINGS", "none", ()),
]


@pytest.mark.parametrize(("name", "text", "value"), RIGHT)
def test_right_text_is_read(name: str, text: str, value: object) -> None:
    assert value_of(name, text) == value


@pytest.mark.parametrize("text", ["true", "1", "yes", "ON"])
def test_booleans_that_are_true(text: str) -> None:
    assert value_of("JULIA_PKG_SERVER_FLAVORLESS", text) is True


@pytest.mark.parametrize("text", ["false", "0", "no", "Off"])
def test_booleans_that_are_false(text: str) -> None:
    assert value_of("JULIA_PKG_SERVER_FLAVORLESS", text) is False


WRONG = [
    *(
        ("JULIA_PKG_SERVER", text)
        for text in (
            "8000",
            "localhost",
            "localhost:",
            ":8000",
            "::1:8000",
            "[::g]:8000",
            "[::1]",
            "999.0.0.1:80",
            "1.2.3:80",
            "a:65536",
            "ftp://a:80",
            "https://pkg.julialang.org",
            "http://a:80/path",
            "*:8000",
            "a:\N{ARABIC-INDIC DIGIT ONE}",
        )
    ),
    *(("JULIA_PKG_SERVER_FQDN", text) for text in ("https://a", "a/b", "-a", "a b", "a:b", "a" * 254)),
    *(("JULIA_PKG_SERVER_STORAGE_ROOT", text) for text in ("/a\0b", "/a\nb", "/\udcff")),
    *(("JULIA_PKG_SERVER_FLAVORLESS", text) for text in ("maybe", "2", "none")),
    *(
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", text)
        for text in (
            ",",
            "none",
            "us-east.storage.julialang.org",
            "ftp://a",
            "https://",
            "https://:80",
            "https://a:0",
            "https://a:65536",
            "https://a:b",
            "https://a?b",
            "https://a#b",
            "https://a b",
            "https://a\\b",
            "https://[::1",
            "https://a\n,https://b",
            "https://a,b",
        )
    ),
    *(("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", text) for text in ("password", "a" * 63, "a" * 65, "g" * 64)),
    *(
        ("PKGSERVER_CONNECT_SECONDS", text)
        for text in (
            "0",
            "-1",
            "nan",
            "inf",
            "1e3",
            "1_0",
            "3601",
            "0.09",
            "9" * 500,
            "5s",
            "\N{ARABIC-INDIC DIGIT THREE}",
            ".5",
            "none",
        )
    ),
    ("JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD", "600.1"),
    *(("PKGSERVER_MAX_DOWNLOADS", text) for text in ("0", "-1", "1.5", "10001", "9" * 5000, "many")),
    *(("PKGSERVER_KEEP_FREE", text) for text in ("-1", "3G", "1.5GiB", "GiB", "1EiB", "1025PiB", "3 G iB", "1ib")),
    *(("PKGSERVER_MAX_CACHE", text) for text in ("0", "0GiB", "nothing")),
    *(("PKGSERVER_PUBLIC_URL", text) for text in ("pkg.example", "https://u:p@pkg.example", "https://a/?b")),
    *(
        ("PKGSERVER_REGISTRIES", text)
        for text in (
            "General",
            f"*,{OTHER}",
            f"{OTHER}=",
            f"{OTHER}=git@a:b",
            f"{OTHER},{OTHER}=https://a",
            ",",
            "none",
        )
    ),
    *(("PKGSERVER_TRUSTED_PROXIES", text) for text in ("localhost", "10.0.0.1/8", "10.0.0.0/33", ",")),
    ("PKGSERVER_LOG_LEVEL", "verbose"),
    ("PKGSERVER_LOG_FORMAT", "xml"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_wrong_text_is_one_line_that_names_setting_value_and_expectation(name: str, text: str) -> None:
    line = error_of(name, text)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{name} is ")
    assert line.endswith(f", expected {setting_of(name).grammar.expected}")


def test_wrong_text_is_shown() -> None:
    assert error_of("PKGSERVER_MAX_DOWNLOADS", "many") == (
        "PKGSERVER_MAX_DOWNLOADS is 'many', expected a whole number from 1 to 10000"
    )


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)
@given(text=st.text(min_size=1))
def test_any_text_is_read_or_refused_with_a_settings_error(setting: Setting, text: str) -> None:
    try:
        setting.parse(text)
    except SettingsError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - a text may also be right


@given(number=st.integers(0, 1000), unit=st.sampled_from(["kB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_units_with_an_i_are_powers_of_1024_and_the_others_of_1000(number: int, unit: str) -> None:
    base = 1024 if "i" in unit else 1000
    power = {"k": 1, "m": 2, "g": 3}[unit[0].lower()]
    assert value_of("PKGSERVER_KEEP_FREE", f"{number}{unit}") == number * base**power


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", SECRET),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://user:{SECRET}@host:bad"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://a,https://user:{SECRET}@host:bad,https://b"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"user:{SECRET}@host"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https:/user:{SECRET}@host"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://user:{SECRET},x@host"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://user:{SECRET}/x@host?"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://user:{SECRET}@x@host?"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://user:{SECRET}\n@host"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://host/?token={SECRET}"),
        ("JULIA_PKG_SERVER_STORAGE_SERVERS", f"https://host/#{SECRET}"),
        ("JULIA_PKG_SERVER_FQDN", f"https://user:{SECRET}@host"),
        ("PKGSERVER_PUBLIC_URL", f"https://user:{SECRET}@host"),
        ("PKGSERVER_REGISTRIES", f"{OTHER}=ssh://user:{SECRET}@host"),
    ],
)
def test_error_never_shows_a_password(name: str, text: str) -> None:
    assert SECRET not in error_of(name, text)


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", "ab" * 32, "***"),
        ("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", "none", "none"),
        (
            "JULIA_PKG_SERVER_STORAGE_SERVERS",
            "https://a,https://u:p@b,http://u@c/d",
            "https://a,https://***@b,http://***@c/d",
        ),
        ("PKGSERVER_REGISTRIES", f"{OTHER}=https://u:p@a,{GENERAL}", f"{OTHER}=https://***@a,{GENERAL}"),
        ("PKGSERVER_REGISTRIES", f"{OTHER}=gitlab+https://u:p@a/b/c", f"{OTHER}=gitlab+https://***@a/b/c"),
        ("PKGSERVER_KEEP_FREE", "3GiB", "3GiB"),
    ],
)
def test_mask_hides_passwords_and_nothing_else(name: str, text: str, shown: str) -> None:
    assert setting_of(name).grammar.mask(text) == shown

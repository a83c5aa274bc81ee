"""A key, or an address with its password, in the place of any other setting is never printed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from webhooks.app import Webhooks
from webhooks.errors import ConfigurationError, WebhooksError, hide_keys, looks_like_key
from webhooks.routing import Registry
from webhooks.settings import Settings, load_settings, shown, shown_path

#: What people paste: signature keys, tokens, addresses with passwords.
VALUES = (
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "k7Qm2vX9pLr4sT8wZ3nB6yHd",
    "VdoqDyA52eot/ZEfPQQG9u0lg78wQdxj3QiozEJ0jqg=",
    "postgresql://app:k7Qm2vX9pLr4sT8w@db.example/hooks",
    "https://user:k7Qm2vX9pLr4sT8w@example.com/hook",
    "user:k7Qm2vX9pLr4sT8w",
    "api_4mPHIOHIChSZw8qUFxGMHv.7vLzSOAP7vVhPjPVmFcXXm",
)
KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = "WEBHOOKS_SOURCES__close__"
OF_A_SOURCE = (
    *(
        "SECRET_FILE",
        "SCHEME",
        "SECRETS_FROM",
        "API_KEY_FILE",
        "API_URL",
        "TOLERANCE",
        "TOLERANCE_AHEAD",
        "ON_UNPARSEABLE",
    ),
    *("ACCEPT_UNSIGNED_BODY", "PUBLIC_URL", "OWN", "DEDUP", "FROBNICATE"),
)
OF_A_ROW = (
    "SIGNATURE",
    "ALGORITHM",
    "ENCODING",
    "SIGNED",
    "TIMESTAMP",
    "ITEMS",
    "DATA",
    "TYPE",
    "ID",
    "REQUIRE",
    "MIN_SECRET_BYTES",
)
GLOBAL = tuple(
    field.name.upper()
    for field in dataclasses.fields(Settings)
    if not field.metadata.get("internal") and field.name != "sources"
)


def parts(value: str) -> list[str]:
    """What of a value must not be seen: the whole, and the longest run of letters and digits in it."""
    import re

    return [value, max(re.findall(r"[A-Za-z0-9]+", value), key=len)]


def said(environ: dict[str, str]) -> str:
    """Everything that a start with these settings says."""
    webhooks = Webhooks(registry=Registry(), environ=environ)
    try:
        webhooks.assemble(role="cli")
    except WebhooksError as error:
        return str(error)
    finally:
        webhooks.close()
    return ""


@pytest.mark.parametrize("value", VALUES)
def test_no_setting_shows_what_was_given_in_its_place(value: str, caplog: pytest.LogCaptureFixture) -> None:
    cases = [{f"WEBHOOKS_{name}": value} for name in GLOBAL]
    cases += [
        {"DATABASE_URL_FILE": value},
        {"WEBHOOKS_DATABASE_URL_FILE": value},
        {"LOG_LEVEL": value},
        {"PORT": value},
    ]
    cases += [{SOURCE + name: value} for name in OF_A_SOURCE]
    cases += [{SOURCE + "SCHEME": "custom", SOURCE + "SIGNATURE": "@x-sig", SOURCE + name: value} for name in OF_A_ROW]
    if looks_like_key(value):  # else it may be a name
        cases += [{f"{SOURCE}SECRET__{value}": "live"}, {f"WEBHOOKS_SOURCES__{value}__SECRET": KEY}]
        cases.append({f"WEBHOOKS_{value}": "1"})
    for case in cases:
        text = said({f"{SOURCE}SECRET": KEY, **case} if not any("SECRET__" in name for name in case) else case)
        for part in parts(value):
            assert part not in text, (case, text)
            assert part.lower() not in text, (case, text)
    assert not any(part in caplog.text for part in parts(value))


@pytest.mark.parametrize("value", VALUES)
def test_a_secret_file_with_labels_and_keys_exchanged_is_refused_without_them(tmp_path: Path, value: str) -> None:
    if not looks_like_key(value):
        pytest.skip("it does not look like a key, so it may be a label")
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({value: "live"}))
    text = said({f"{SOURCE}SECRET_FILE": str(file)})
    assert "write label = key" in text
    assert value not in text


def test_what_is_harmless_is_shown_since_it_says_most() -> None:
    for value in ("soon", "70000", "1.5MiB", "x y", "", True, 5, None, "@x-sig", "{timestamp}.{body"):
        assert shown(value) == repr(value)
    assert shown_path("keys.json") == "'keys.json'"
    assert shown_path(Path("/etc/hosts")) == "'/etc/hosts'"


def test_other_values_are_told_by_their_shape() -> None:
    assert shown(KEY) == "text of 64 characters"
    assert shown(["a", "b"]) == "a list of 2"
    assert shown(10**5000) == "of type int"
    assert KEY not in shown_path(KEY)
    assert shown_path("/abcd" * 5) != repr("/abcd" * 5)  # no such directory


def test_names_are_no_keys() -> None:
    for name in (
        "whsub_7E93T0QEpfN20luyxeovcK",
        "webhooks_deliveries_event_id_handler",
        "handlers.whatsapp.greet",
        "a" * 23,
    ):
        assert not looks_like_key(name)
        assert hide_keys(f"the name {name} stays") == f"the name {name} stays"


def test_the_whole_error_is_without_keys() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({f"WEBHOOKS_{KEY}": "1"}, file=None)
    assert KEY not in str(caught.value)
    assert "there is no such setting" in str(caught.value)

"""What tests take of a project's settings, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import each
from webhooks.errors import ConfigurationError
from webhooks.settings import load_settings
from webhooks.sources import make_source
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.testing.keys import make_key
from webhooks.testing.project import find_project, read_table, table_for_tests


@each(
    ("table", "overrides", "wanted", "sources"),
    [
        ({}, {}, [], {"close"}),
        ({}, {}, ["stripe"], {"stripe"}),
        ({"sources": {"Close": {}}}, {}, ["stripe"], {"close", "stripe"}),
        ({"sources": {"close": {}}}, {"sources": {"crm": {"scheme": "standard"}}}, ["close"], {"close", "crm"}),
    ],
)
def test_sources_are_those_of_the_project_of_the_test_and_of_handlers(
    table: dict[str, Any], overrides: dict[str, Any], wanted: list[str], sources: set[str]
) -> None:
    made = table_for_tests(table, overrides, wanted)
    assert set(made["sources"]) == sources
    assert all(section["secret"] for section in made["sources"].values())


def test_what_is_secret_or_reaches_out_is_left_out() -> None:
    table = {
        "max_attempts": 3,
        "secret_key": "x",
        "secret_key_file": "/nowhere",
        "heartbeat_url": "https://h.example.com",
        "alarms": {"ops": {}},
        "database_url": "postgresql://production",
        "sources": {"close": {"secret": "theirs", "secret_file": "/nowhere", "api_key": "theirs", "own": ["api_1"]}},
    }
    made = table_for_tests(table, {})
    assert made["max_attempts"] == 3
    assert not made.keys() & {"secret_key", "secret_key_file", "heartbeat_url", "alarms", "database_url"}
    close = made["sources"]["close"]
    assert close["own"] == ["api_1"]
    assert close.keys() == {"own", "secret", "public_url"}
    assert close["secret"] != "theirs"
    assert close["secret"] != table_for_tests(table, {})["sources"]["close"]["secret"]


def test_what_a_test_says_wins() -> None:
    table = {"max_attempts": 3, "sources": {"close": {"tolerance": "1m"}}}
    said = {"MAX_ATTEMPTS": 5, "sources": {"close": {"secret": "of the test"}}, "tallies": True}
    made = table_for_tests(table, said)
    assert (made["max_attempts"], made["tallies"]) == (5, True)
    assert made["sources"]["close"] == {
        "tolerance": "1m", "secret": "of the test", "public_url": "https://hooks.example.com/webhooks/close",
    }  # fmt: skip
    assert table_for_tests(table, {}, secrets={"close": "given"})["sources"]["close"]["secret"] == "given"


def test_mistakes_in_a_project_are_left_for_the_settings_to_name() -> None:
    with pytest.raises(ConfigurationError, match="max_attempt: there is no such setting"):
        load_settings({}, file=None, overrides=table_for_tests({"max_attempt": 3}, {}))


def test_every_scheme_gets_a_key_with_which_its_source_starts() -> None:
    published = {name for name, row in SCHEMES.items() if row.certificate or row.jwt.jwks}
    for scheme in sorted({*SCHEMES, "close"} - published - {"custom", "hmac"}):
        needs = (
            dict.fromkeys((*SCHEMES[scheme].needs, *(["verify_token"] * (scheme == "meta"))), "a-token-of-ours")
            if scheme in SCHEMES
            else {}
        )
        table = table_for_tests({}, {"sources": {scheme: needs}}, [scheme])
        table["sources"][scheme]["accept_unsigned_body"] = True
        source = make_source(load_settings({}, file=None, overrides=table).sources[scheme])
        assert source.labels(), scheme


def test_a_scheme_of_its_own_gets_a_key_in_the_shape_that_it_says() -> None:
    key = make_key("custom", {"secret_encoding": "base64", "secret_prefix": "whsec_"})["secret"]
    assert key.startswith("whsec_")
    assert make_key("custom", {"algorithm": "rsa-sha256"}) == {}
    assert len(make_key("of-another-distribution", {})["secret"]) == 64


def test_a_project_is_found_from_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "tests").mkdir(parents=True)
    assert find_project(tmp_path / "a" / "tests") == tmp_path / "a" / "tests"
    (tmp_path / "a" / "webhooks.toml").write_text("MAX_ATTEMPTS = 2")
    assert find_project(tmp_path / "a" / "tests") == tmp_path / "a"
    assert find_project(tmp_path, tmp_path / "a") == tmp_path / "a"
    assert read_table(tmp_path / "a") == {"max_attempts": 2}
    assert read_table(tmp_path) == {}
    (tmp_path / "a" / "webhooks.toml").write_text("no toml")
    with pytest.raises(ConfigurationError, match=r"webhooks\.toml cannot be read: "):
        read_table(tmp_path / "a")

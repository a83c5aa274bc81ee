"""A source that could never verify a request does not start; one that is tried with vectors says what it read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import CASES, NOW, Case
from webhooks.errors import ConfigurationError
from webhooks.operations import vectors
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared.selfcheck import why_not_tried
from webhooks.sources.declared.source import DeclaredSource

KEY = "tk-4f9d0c7be2a1483f0c7be2"


def source(**options: Any) -> Source:
    settings = SourceSettings(
        "it", "custom", [Secret(KEY)], options={"signature": "@x-sig", **options}, accept_unsigned_body=True
    )
    return make_source(settings)


@each(
    "options",
    [
        {"prefix": "v1,", "split": ","},
        {"prefix": "sha256=", "split": "="},
        {"encoding": "base64", "split": "="},
        {"split": ".", "timestamp": "part:t=", "prefix": "v.", "signed": "{timestamp}{body}"},
    ],
)
def test_what_contradicts_itself_does_not_start(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="would refuse every request"):
        source(**options)


@each(
    "options",
    [
        {"signature": "sig.value", "signed": "{token}", "items": "events", "unwrap": "inner"},
        {"signature": "sig", "algorithm": "token", "items": "."},
        {"signature": "query:token", "algorithm": "token"},
        {"expect": {"a.b": ["c"]}},
        {"timestamp": "sent.at", "timestamp_format": "iso"},
        {"split": ",", "timestamp": "part:0", "signed": "{timestamp}.{body}"},
        {"split": ",", "timestamp": "part:1", "signed": "{timestamp}.{body}"},
        {"split": ",", "timestamp": "part:5", "signed": "{timestamp}.{body}"},
    ],
)
def test_what_fits_starts(options: Any) -> None:
    source(**options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.scheme)
def test_every_scheme_is_tried_or_says_why_not(case: Case) -> None:
    made = case.source()
    if isinstance(made, DeclaredSource):
        assert why_not_tried(made) is None
    if case.scheme != "linear":  # its sample holds the time at which it was made
        assert vectors.try_itself(made, NOW).is_as_said


def test_a_file_of_vectors_says_what_was_read(tmp_path: Path) -> None:
    made = source(id="{id}")
    body = '{"type":"lamp.lit","id":"7"}'
    right = dict(made.sign(body.encode(), NOW))
    path = tmp_path / "vectors.json"
    path.write_text(
        json.dumps(
            {
                "vectors": [
                    {"name": "right", "headers": right, "body": body},
                    {"name": "wrong", "headers": right, "body": body + " ", "valid": False},
                    {"name": "odd", "headers": right, "body": body + " "},
                    {"name": "unread", "headers": dict(made.sign(b"{}", NOW)), "body": "{}"},
                ]
            }
        )
    )
    right_one, wrong, odd, unread = [vectors.try_vector(made, each, NOW) for each in vectors.read_vectors(path)]
    assert (right_one.is_as_said, right_one.label, right_one.events[0].type) == (True, "1", "lamp.lit")
    assert (wrong.is_as_said, odd.is_as_said, unread.is_as_said) == (True, False, False)
    assert "at the end of the body was added" in odd.reason
    assert "type is missing" in unread.reason
    assert vectors.tried_json(right_one)["events"][0]["dedup_key"] == "7"


@each("text", ["", "{}", '{"vectors": []}', '{"vectors": [5]}'])
def test_a_file_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        vectors.read_vectors(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        vectors.read_vectors(tmp_path / "none.json")


@each("vector", [{"body": 5}, {"headers": 5}, {"now": "x"}, {"secrets": []}])
def test_a_vector_of_another_shape_is_refused(vector: Any) -> None:
    with pytest.raises(ConfigurationError, match="another shape"):
        vectors.try_vector(source(), vector, NOW)

"""`docs/sources.md`: its made-up sender works as printed, every scheme and option stands in it."""

from __future__ import annotations

import hmac
import json
import re
import tomllib
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from webhooks.errors import ConfigurationError, Malformed, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.operations.trigger import choose
from webhooks.operations.vectors import try_itself
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared import schemes
from webhooks.sources.declared.manners import OPTIONS
from webhooks.sources.declared.options import READING_OPTIONS, ROW_OPTIONS
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.declared.source import COMMON_OPTIONS
from webhooks.sources.samples import samples_of

PAGE = (Path(__file__).parents[3] / "docs" / "sources.md").read_text("utf-8")


def block(language: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in text]
    assert len(found) == 1
    return str(found[0])


def test_the_made_up_sender_works_as_printed() -> None:
    options: dict[str, Any] = tomllib.loads(block("toml", "[sources.lighthouse]"))["sources"]["lighthouse"]
    settings = SourceSettings("lighthouse", options.pop("scheme"), [Secret(options.pop("secret"))], options=options)
    source = make_source(settings)
    (vector,) = json.loads(block("json", "openssl"))["vectors"]
    assert vector["secrets"] == {"1": settings.secrets[0].reveal()}
    request = InboundRequest(Headers(vector["headers"]), vector["body"].encode())
    now = datetime.fromtimestamp(vector["now"], UTC)
    assert source.verify(request, now).label == "1"
    (event,) = source.parse(request)
    assert (event.dedup_key, event.type, event.occurred_at) == ("7", "lamp.lit", now)
    assert event.ordering == {"object_id": "north"}
    assert source.read(event.body, event.type).data == {"id": "north"}


@pytest.fixture
def foghorn(monkeypatch: pytest.MonkeyPatch) -> Source:
    """The source by code, as printed, found as an installed distribution's would be."""
    module = types.ModuleType("foghorn")
    exec(compile(block("python", "class FoghornSource"), "docs/sources.md", "exec"), module.__dict__)

    class Point:
        name = "foghorn"

        def load(self) -> Any:
            return module.FoghornSource

    monkeypatch.setattr(schemes, "_foreign", lambda: {"foghorn": Point()})
    options = tomllib.loads(block("toml", 'scheme = "foghorn"'))["sources"]["harbour"]
    return make_source(SourceSettings("harbour", options["scheme"], [Secret(options["secret"])]))


def test_the_source_by_code_works_as_printed(foghorn: Source) -> None:
    tried = try_itself(foghorn, datetime.now(UTC))
    assert (tried.is_as_said, tried.label, tried.reason) == (True, "1", "")
    assert [(event.dedup_key, event.type, event.ordering["object_id"]) for event in tried.events] == [
        ("7", "horn.sounded", "north"),
        ("8", "horn.silent", "south"),
    ]
    content = foghorn.read(tried.events[0].body, tried.events[0].type)
    assert (content.data, content.object_id) == ({"id": "7", "place": "north"}, "north")
    body, headers, is_sample = choose("horn.sounded", foghorn)
    assert is_sample
    # made with another program: sort LINES | openssl dgst -sha256 -hmac fh-4f9d0c7be2a1483f
    lines = b"7;horn.sounded;north\n8;horn.silent;south"
    mac = hmac.new(b"fh-4f9d0c7be2a1483f", lines, "sha256").hexdigest()
    now = datetime.now(UTC)
    assert foghorn.verify(InboundRequest(Headers({**headers, "Foghorn-Mac": mac}), body), now).label == "1"
    for request in (InboundRequest(Headers({"foghorn-mac": mac}), body + b"x"), InboundRequest(Headers({}), body)):
        with pytest.raises(SignatureError):
            foghorn.verify(request, now)
    for malformed in (b"7;horn.sounded", b"\xff;a;b", b"a;b;c;d"):
        with pytest.raises(Malformed):
            foghorn.parse(InboundRequest(Headers({}), malformed))


def test_the_source_by_code_refuses_settings_that_it_does_not_know(foghorn: Source) -> None:
    for settings in (
        SourceSettings("harbour", "foghorn", [Secret("fh-4f9d0c7be2a1483f")], options={"place": "north"}),
        SourceSettings("harbour", "foghorn", [Secret("short")]),
        SourceSettings("harbour", "foghorn", []),
    ):
        with pytest.raises(ConfigurationError, match="source 'harbour'"):
            make_source(settings)


def test_a_sender_of_ones_own_brings_a_sample_made_of_its_row() -> None:
    options: dict[str, Any] = tomllib.loads(block("toml", "[sources.lighthouse]"))["sources"]["lighthouse"]
    settings = SourceSettings("lighthouse", options.pop("scheme"), [Secret(options.pop("secret"))], options=options)
    source = make_source(settings)
    (sample,) = samples_of(source)
    assert sample.type == "lamp.sample"
    tried = try_itself(source, datetime.now(UTC))
    assert (tried.is_as_said, [event.dedup_key for event in tried.events]) == (True, ["sample-1"])


def test_every_scheme_stands_in_the_table_and_has_its_section() -> None:
    for name, row in SCHEMES.items():
        assert f"`{name}`" in PAGE or f'"{name}"' in PAGE, name
        assert row.documentation in PAGE, name
    sections = {line.removeprefix("### ").lower() for line in PAGE.splitlines() if line.startswith("### ")}
    assert {row.title.lower() for row in SCHEMES.values()} <= sections


def test_what_a_row_knows_of_retries_stands_in_its_section_with_the_page_that_says_so() -> None:
    for name, row in SCHEMES.items():
        if row.retries:
            section = PAGE.partition(f"### {row.title}\n")[2].partition("\n### ")[0]
            assert re.sub(r"\((https://[^)]*)\)", r"(<\1>)", row.retries) in section, name
            assert "(https://" in row.retries, name
    assert sum(bool(row.retries) for row in SCHEMES.values()) >= 20


def test_every_option_is_described() -> None:
    for name in ROW_OPTIONS | READING_OPTIONS | COMMON_OPTIONS | OPTIONS | {"verify_token", "secrets_from"}:
        assert f"`{name}`" in PAGE, name

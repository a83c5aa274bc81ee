"""`docs/sources.md`: its made-up sender works as printed, every scheme and option stands in it."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, SourceSettings, make_source
from webhooks.sources.declared.manners import OPTIONS
from webhooks.sources.declared.options import READING_OPTIONS, ROW_OPTIONS
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.declared.source import COMMON_OPTIONS

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

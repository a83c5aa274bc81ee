"""Known answers for every scheme: one file each, whose origin stands in it. Our own `sign` is no witness here."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import PUBLISHED_KEYS
from webhooks.errors import ConfigurationError, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, SourceSettings, make_source
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.declared.source import DeclaredSource
from webhooks.sources.keys.published import PUBLISHED, why_weak

FILES = sorted(path for path in (Path(__file__).parent / "vectors").glob("*.json") if path.stem != "close")
SETS = [json.loads(path.read_text("utf-8")) for path in FILES]
CASES = [(vector, made) for made in SETS for vector in made["vectors"]]
#: The vendors' own secrets; SendGrid's is a public key, which is no secret.
PUBLISHED_CASES = [
    (vector, made)
    for made in SETS
    for vector in made["vectors"]
    if made["kind"] == "vendor" and vector["valid"] and made["scheme"] != "sendgrid"
]


def settings_of(vector: dict[str, Any], made: dict[str, Any]) -> SourceSettings:
    secrets = [Secret(value, label) for label, value in vector["secrets"].items()]
    settings = dict(made["settings"])
    if "url" in vector:
        settings["public_url"] = vector["url"]
    return SourceSettings("vector", made["scheme"], secrets, **settings)


def request_of(vector: dict[str, Any]) -> InboundRequest:
    return InboundRequest(Headers(vector["headers"]), vector["body"].encode(), query=vector.get("query", "").encode())


@each(("vector", "made"), CASES)
def test_a_known_answer_is_judged_as_its_file_says(vector: dict[str, Any], made: dict[str, Any]) -> None:
    source = DeclaredSource(settings_of(vector, made), SCHEMES[made["scheme"]], allow_published_secrets=True)
    now = datetime.fromtimestamp(vector["now"], UTC)
    asked = request_of(vector)
    if vector.get("level") == "mac":
        text = source.signed_text(asked, vector["stamp"].encode())
        assert source.keys.current()[0].value.matches(text, [vector["signature"].encode()])
    elif vector["valid"]:
        assert source.verify(asked, now).label == vector.get("label", next(iter(vector["secrets"])))
    else:
        with pytest.raises(SignatureError):
            source.verify(asked, now)


def test_every_scheme_has_known_answers_right_and_wrong() -> None:
    for wanted in (True, False):
        covered = {made["scheme"] for made in SETS for vector in made["vectors"] if vector["valid"] is wanted}
        missing = set(SCHEMES) - covered - {"hmac"} - PUBLISHED_KEYS
        assert missing <= (set() if wanted else {"slack", "hubspot"})  # made wrong in the contract suite


#: Known answers of before the query of Twilio's address had to stand in `public_url`; they have it now.
CHANGED = {"twilio/form", "twilio/doubled-field", "twilio/body-hash"}


#: Digests of right answers, as they were when all of them verified in a state that people run.
RELEASED = FILES[0].parents[1] / "released.json"


def digests() -> dict[str, str]:
    """{file/name: digest} of every right answer."""
    return {
        f"{path.stem}/{vector['name']}": hashlib.sha256(
            json.dumps([made["scheme"], made["settings"], vector], sort_keys=True).encode()
        ).hexdigest()[:16]
        for path, made in zip(FILES, SETS, strict=True)
        for vector in made["vectors"]
        if vector["valid"]
    }


def test_what_verified_in_the_state_before_is_still_among_the_known_answers() -> None:
    """A known answer that is taken away, or mended to fit the code, would hide that a sender is refused from now on."""
    released, here = json.loads(RELEASED.read_text("utf-8")), digests()
    assert {name for name, digest in released.items() if here.get(name) != digest} <= CHANGED <= here.keys()


def test_every_file_says_where_it_comes_from() -> None:
    for made in SETS:
        assert made["kind"] in ("vendor", "oracle")
        assert len(made["origin"]) > 40


@each(("vector", "made"), PUBLISHED_CASES)
def test_a_source_does_not_start_with_a_published_secret(vector: dict[str, Any], made: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"printed in a vendor's documents|too short") as caught:
        make_source(settings_of(vector, made))
    for value in vector["secrets"].values():
        assert value not in str(caught.value)


def test_the_list_of_published_secrets_holds_those_of_the_vectors() -> None:
    assert len(PUBLISHED) >= 16
    values = {
        value for made in SETS if made["kind"] == "vendor" for v in made["vectors"] for value in v["secrets"].values()
    }
    assert sum(why_weak(value, "whsec_") is not None for value in values) >= 11


if __name__ == "__main__":  # at a release
    RELEASED.write_text(json.dumps(digests(), indent=1, sort_keys=True) + "\n")

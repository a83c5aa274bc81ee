"""Vendors' own Python libraries as witnesses: they accept what we sign, and we accept what they sign."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
import stripe
import time_machine
from slack_sdk.signature import SignatureVerifier

from tests.unit.sources.cases import CASES, NOW, Case
from webhooks.model import Headers, InboundRequest


def case_of(scheme: str) -> Case:
    return next(case for case in CASES if case.scheme == scheme)


def test_standardwebhooks_accepts_what_we_sign_and_we_what_it_signs() -> None:
    case = case_of("standard")
    request = case.request()
    theirs = standardwebhooks.Webhook(case.secrets[0])
    with time_machine.travel(NOW, tick=False):
        headers = {name: value.decode() for name, value in request.headers.items()}
        assert theirs.verify(request.body, headers) == json.loads(request.body)
    body = '{"type":"x","data":"é"}'
    signed = theirs.sign("msg_1", NOW.replace(tzinfo=None), body)
    stamp = str(int(NOW.timestamp()))
    mine = Headers({"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signed})
    assert case.source().verify(InboundRequest(mine, body.encode()), NOW).label == "first"


def test_stripe_accepts_what_we_sign_and_we_what_it_signs() -> None:
    case = case_of("stripe")
    request = case.request()
    header = (request.headers.one("stripe-signature") or b"").decode()
    with time_machine.travel(NOW, tick=False):
        assert stripe.WebhookSignature.verify_header(request.body.decode(), header, case.secrets[0], 300)
    body = '{"id":"evt_1","type":"x"}'
    stamp = int(NOW.timestamp())
    mac = stripe.WebhookSignature._compute_signature(f"{stamp}.{body}", case.secrets[0])
    mine = Headers({"stripe-signature": f"t={stamp},v1={mac},v0=0000"})
    assert case.source().verify(InboundRequest(mine, body.encode()), NOW).label == "first"


def test_slack_accepts_what_we_sign_and_we_what_it_signs() -> None:
    case = case_of("slack")
    request = case.request()
    theirs = SignatureVerifier(case.secrets[0])
    with time_machine.travel(NOW, tick=False):
        assert theirs.is_valid_request(request.body, {name: value.decode() for name, value in request.headers.items()})
    stamp = str(int(NOW.timestamp()))
    signed = theirs.generate_signature(timestamp=stamp, body="a=b") or ""
    mine = Headers({"x-slack-signature": signed, "x-slack-request-timestamp": stamp})
    assert case.source().verify(InboundRequest(mine, b"a=b"), NOW).label == "first"


@pytest.mark.parametrize("age", [-301, -300, 0, 300, 301])
def test_we_judge_times_as_standardwebhooks_does(age: int) -> None:
    case = case_of("standard")
    request = case.request()
    headers = {name: value.decode() for name, value in request.headers.items()}
    then = datetime.fromtimestamp(NOW.timestamp() + age, UTC)
    outcomes = []
    with time_machine.travel(then, tick=False):
        for judge in (
            lambda: standardwebhooks.Webhook(case.secrets[0]).verify(request.body, headers),
            lambda: case.source().verify(request, then),
        ):
            try:
                judge()
                outcomes.append(True)
            except Exception:
                outcomes.append(False)
    assert outcomes == [abs(age) <= 300] * 2

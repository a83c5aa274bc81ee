"""Catch-up with Stripe, PayPal and GitHub: what never came is fetched, or asked for again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from tests.integration.conftest import Consumer
from tests.integration.sender_doubles import Double, GitHubDouble, PayPalDouble, StripeDouble
from tests.support import Clock
from webhooks.cli import group
from webhooks.database import tables as schema
from webhooks.operations.catch_up import Report
from webhooks.operations.doctor.checks import diagnose
from webhooks.routing import Registry
from webhooks.sources import ApiRefused, ApiUnavailable

pytestmark = pytest.mark.one_database

NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECRET = "made-up-secret-4f9d0c7be2a1"


def nothing(event: Any) -> None:
    """A handler."""


@pytest.fixture
def doubles() -> Iterator[list[Double]]:
    made: list[Double] = []
    yield made
    for double in made:
        double.close()


@pytest.fixture
def make(make_consumer: Callable[..., Consumer]) -> Callable[..., Consumer]:
    """A consumer of one source, which is named as its scheme, with a handler for `patterns`."""

    def consumer(scheme: str, *patterns: str, **section: Any) -> Consumer:
        registry = Registry()
        for number, pattern in enumerate(patterns):
            registry.add(nothing, pattern, name=f"handler {number}".replace(" ", "-"))
        return make_consumer(registry, sources={scheme: section}, clock=Clock(NOW))

    return consumer


def catch_up(consumer: Consumer, name: str, since: timedelta | None = None, **options: Any) -> Report:
    source: Any = consumer.webhooks.sources[name]
    begin = None if since is None else NOW - since
    with source.connect() as client:
        client.caller._attempts, client.caller._sleep = 2, lambda seconds: None
        report: Report = consumer.webhooks.make_catch_up(source, client, "test").run(begin, **options)
    return report


def rows(consumer: Consumer) -> list[tuple[str, str, int]]:
    """[(dedup key, type, origin)] of what is stored, in order."""
    table = schema.events.c
    with consumer.webhooks.database.read() as connection:
        return [
            tuple(row)
            for row in connection.execute(select(table.dedup_key, table.type, table.origin).order_by(table.id))
        ]


# -- Stripe: its log is read ---------------------------------------------------------------------------------


def charge(number: int, ago: timedelta, type: str = "charge.succeeded") -> dict[str, Any]:
    return {
        "id": f"evt_{number}",
        "object": "event",
        "api_version": "2025-04-30.basil",
        "created": int((NOW - ago).timestamp()),
        "type": type,
        "pending_webhooks": 1,
        "data": {"object": {"id": f"ch_{number}", "object": "charge", "amount": 100 * number}},
    }


@pytest.fixture
def stripe(doubles: list[Double], make: Callable[..., Consumer]) -> Callable[..., tuple[StripeDouble, Consumer]]:
    def pair(*patterns: str, page: int = 100, **options: Any) -> tuple[StripeDouble, Consumer]:
        double = StripeDouble(page)
        doubles.append(double)
        section = {"secret": SECRET, "api_key": StripeDouble.KEY, "api_url": double.url, **options}
        return double, make("stripe", *patterns, **section)

    return pair


def test_what_stripe_lists_and_never_came_is_stored_as_if_it_had_come(stripe: Any) -> None:
    double, consumer = stripe("charge.**", page=2)
    double.events = [
        charge(5, HOUR),
        charge(4, 2 * HOUR),
        charge(3, 2 * HOUR, "payout.paid"),
        charge(2, 3 * HOUR),
        charge(1, 2 * DAY),
    ]
    assert consumer.post(json.dumps(charge(4, 2 * HOUR)).encode(), "stripe").json["status"] == "stored"
    report = catch_up(consumer, "stripe", DAY)
    assert (report.added, report.duplicates, report.fetched) == ({"charge.succeeded": 2}, 1, 4)
    assert rows(consumer) == [
        ("evt_4", "charge.succeeded", 0),
        ("evt_2", "charge.succeeded", 1),
        ("evt_5", "charge.succeeded", 1),
    ]
    (found,) = [each for each in map(consumer.webhooks.store.events.get, ids(consumer)) if each.dedup_key == "evt_5"]
    assert found.data == {"id": "ch_5", "object": "charge", "amount": 500}
    assert found.object_id == "ch_5"
    assert catch_up(consumer, "stripe", DAY).repaired == 0


def ids(consumer: Consumer) -> list[int]:
    with consumer.webhooks.database.read() as connection:
        return list(connection.execute(select(schema.events.c.id)).scalars())


def test_an_event_that_comes_after_it_was_fetched_is_a_duplicate_and_no_conflict(stripe: Any) -> None:
    """The list writes it with other blanks, and another number of pending webhooks."""
    double, consumer = stripe("charge.**")
    double.events = [charge(1, HOUR)]
    assert catch_up(consumer, "stripe", DAY).repaired == 1
    posted = consumer.post(json.dumps({**charge(1, HOUR), "pending_webhooks": 0}).encode(), "stripe")
    assert posted.json["status"] == "duplicate"
    assert len(rows(consumer)) == 1, "a conflict would be kept"


def test_thin_events_are_read_where_they_are_asked_for(stripe: Any) -> None:
    thin = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "created": (NOW - HOUR).isoformat().replace("+00:00", "Z"),
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
    }
    double, consumer = stripe("**", page=1, thin_events=True)
    double.events = [charge(1, HOUR)]
    double.thin = [thin, {**thin, "id": "evt_other"}]
    assert catch_up(consumer, "stripe", 2 * HOUR).repaired == 3
    assert [row[0] for row in rows(consumer)] == ["evt_1", "evt_other", "evt_thin"]
    without, other = stripe("**")
    without.thin = [thin]
    assert catch_up(other, "stripe", 2 * HOUR).repaired == 0


def test_a_second_is_in_one_window_alone_and_no_event_lies_between_two(stripe: Any) -> None:
    double, consumer = stripe("charge.**")
    double.events = [charge(n, timedelta(seconds=n)) for n in range(1, 60)]
    until = NOW - timedelta(seconds=30, milliseconds=500)
    first = catch_up(consumer, "stripe", HOUR, until=until)
    assert (first.repaired, catch_up(consumer, "stripe").repaired) == (29, 30)


# -- PayPal: it sends again ----------------------------------------------------------------------------------


def capture(id: str, ago: timedelta, type: str = "PAYMENT.CAPTURE.COMPLETED") -> dict[str, Any]:
    at = (NOW - ago).isoformat().replace("+00:00", "Z")
    return {"id": id, "create_time": at, "event_type": type, "resource_type": "capture", "resource": {"id": f"r-{id}"}}


@pytest.fixture
def paypal(doubles: list[Double], make: Callable[..., Consumer]) -> Callable[..., tuple[PayPalDouble, Consumer]]:
    def pair(*patterns: str, page: int = 100) -> tuple[PayPalDouble, Consumer]:
        double = PayPalDouble(page)
        doubles.append(double)
        key = f"{PayPalDouble.CLIENT}:{PayPalDouble.SECRET}"
        more = {"webhook_id": PayPalDouble.WEBHOOK, "accept_unsigned_body": True}
        return double, make("paypal", *patterns, api_key=key, api_url=double.url, **more)

    return pair


def arrive(consumer: Consumer, name: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Store what its sender delivered, as the front door does behind the signature."""
    from webhooks.model import Headers, InboundRequest

    source = consumer.webhooks.sources[name]
    parsed = source.parse(InboundRequest(Headers(headers or {}), body))
    consumer.webhooks.ingest.record(source, parsed, received_at=NOW)


def test_what_paypal_lists_and_never_came_is_resent_to_our_webhook(paypal: Any) -> None:
    double, consumer = paypal("PAYMENT.**", page=2)
    double.events = [
        capture("WH-5", HOUR),
        capture("WH-4", HOUR, "INVOICING.INVOICE.PAID"),
        capture("WH-3", 2 * HOUR),
        capture("WH-2", 3 * HOUR),
        capture("WH-1", 3 * DAY),
    ]
    arrive(consumer, "paypal", json.dumps(capture("WH-3", 2 * HOUR)).encode())
    assert catch_up(consumer, "paypal", DAY, dry_run=True).repaired == 2
    assert double.asked == []
    report = catch_up(consumer, "paypal", DAY)
    assert (double.asked, report.added, report.duplicates) == (["WH-2", "WH-5"], {"PAYMENT.CAPTURE.COMPLETED": 2}, 1)
    assert [row[0].partition(":")[0] for row in rows(consumer)] == ["WH-3"], "no event is made of the API's copy"
    for id in double.asked:
        arrive(consumer, "paypal", json.dumps(capture(id, HOUR)).encode())
    assert catch_up(consumer, "paypal", DAY).repaired == 0
    assert double.tokens == 3, "one for each run"
    assert not any("elsewhere" in request for request in double.requests)


def test_one_that_paypal_does_not_resend_stops_no_other(paypal: Any, caplog: pytest.LogCaptureFixture) -> None:
    double, consumer = paypal("PAYMENT.**")
    double.events = [capture("WH-2", HOUR), capture("WH-1", 2 * HOUR)]
    double.pending = {"WH-1"}
    report = catch_up(consumer, "paypal", DAY)
    assert (report.refused, report.repaired, double.asked) == (1, 1, ["WH-2"])
    assert "event WH-1 (PAYMENT.CAPTURE.COMPLETED) of paypal is not delivered again: " in caplog.text
    assert "The event is pending" in caplog.text


def test_a_token_that_ran_out_is_renewed(paypal: Any) -> None:
    double, consumer = paypal("PAYMENT.**")
    source: Any = consumer.webhooks.sources["paypal"]
    with source.connect() as client:
        client.check()
        client._good_until = float("-inf")
        client.check()
    assert double.tokens == 2


# -- GitHub: what failed is delivered again ------------------------------------------------------------------


@pytest.fixture
def github(doubles: list[Double], make: Callable[..., Consumer]) -> Callable[..., tuple[GitHubDouble, Consumer]]:
    def pair(*patterns: str, page: int = 100) -> tuple[GitHubDouble, Consumer]:
        double = GitHubDouble(page)
        doubles.append(double)
        asked = {"api_key": GitHubDouble.TOKEN, "api_url": double.url, "hook": GitHubDouble.HOOK}
        return double, make("github", *patterns, secret=SECRET, **asked)

    return pair


def test_deliveries_of_github_that_failed_are_asked_for_again_whoever_handles_them(github: Any) -> None:
    double, consumer = github(page=2)
    double.delivered("old", NOW - 2 * DAY, 503)
    old = double.delivered("first", NOW - 5 * HOUR, 503)
    double.delivered("mended", NOW - 4 * HOUR, 502)
    double.delivered("fine", NOW - 4 * HOUR, 200)
    double.delivered("mended", NOW - 3 * HOUR, 200, again=True)
    stored = double.delivered("stored", NOW - 2 * HOUR, 504)
    last = double.delivered("last", NOW - HOUR, 0, "push", None)
    arrive(consumer, "github", b'{"action":"opened"}', {"x-github-delivery": "stored", "x-github-event": "issues"})
    assert catch_up(consumer, "github", DAY, dry_run=True).repaired == 2
    report = catch_up(consumer, "github", DAY)
    assert double.asked == [old, last]
    assert stored not in double.asked, "GitHub did not hear our answer; we have it"
    assert (report.added, report.duplicates) == ({"issues.opened": 1, "push": 1}, 1)
    assert report.fetched == 7
    assert len(rows(consumer)) == 1


def test_the_bytes_of_a_redelivery_pass_the_front_door(github: Any) -> None:
    double, consumer = github("issues.*")
    double.delivered("g-1", NOW - HOUR, 503)
    catch_up(consumer, "github", DAY)
    body = b'{"action":"opened","issue":{"number":1}}'
    headers = {"X_GitHub_Delivery": "g-1", "X_GitHub_Event": "issues"}
    assert consumer.post(body, "github", **headers).json["status"] == "stored"
    double.delivered("g-1", NOW, 200, again=True)
    assert catch_up(consumer, "github", DAY).repaired == 0


def test_what_fails_again_and_again_is_given_up(github: Any, caplog: pytest.LogCaptureFixture) -> None:
    double, consumer = github()
    for number in range(5):
        double.delivered("bad", NOW - (10 - number) * HOUR, 413, again=number > 0)
    double.delivered("good", NOW - HOUR, 503, again=True)
    report = catch_up(consumer, "github", timedelta(hours=7))
    assert (report.refused, report.repaired, len(double.asked)) == (1, 1, 1)
    assert (
        "event bad (issues.opened) of github is not delivered again: 5 attempts failed, the last with 413"
        in caplog.text
    )


def test_a_delivery_that_is_gone_stops_no_other(github: Any) -> None:
    double, consumer = github()
    double.gone = {double.delivered("gone", NOW - 2 * HOUR, 503)}
    kept = double.delivered("kept", NOW - HOUR, 503)
    report = catch_up(consumer, "github", DAY)
    assert (report.refused, double.asked) == (1, [kept])


def test_a_long_list_without_a_failure_is_walked_to_its_end(github: Any) -> None:
    double, consumer = github(page=1)
    failed = double.delivered("first", NOW - 5 * HOUR, 503)
    for number in range(40):
        double.delivered(f"g-{number}", NOW - HOUR, 200)
    assert catch_up(consumer, "github", DAY).fetched == 41
    assert double.asked == [failed]


@pytest.fixture
def pair(stripe: Any, paypal: Any, github: Any) -> Callable[[str], tuple[Double, Consumer]]:
    """The double and the consumer of a scheme."""
    makers = {"stripe": stripe, "paypal": paypal, "github": github}
    return lambda scheme: makers[scheme]("**")


# -- when they cannot be asked -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["stripe", "paypal", "github"])
def test_a_key_that_is_wrong_and_a_server_that_fails_are_told_apart(
    scheme: str, pair: Callable[[str], tuple[Double, Consumer]]
) -> None:
    double, consumer = pair(scheme)
    double.failures = [(500, {}, {}), (503, {}, {})]
    with pytest.raises(ApiUnavailable, match="answered 503; try again later"):
        catch_up(consumer, scheme, DAY)
    double.failures = [(401, {"message": "no"}, {})]
    with pytest.raises(ApiRefused, match=rf"does not know the API key of source '{scheme}' \(401\)"):
        catch_up(consumer, scheme, DAY)
    mark = consumer.webhooks.store.marks.get(scheme)
    assert mark.error is not None
    assert "(401)" in mark.error
    assert mark.mark_at is None


@pytest.mark.parametrize("scheme", ["stripe", "paypal", "github"])
@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": 5, "events": 5}', b"5"], ids=str)
def test_an_answer_that_is_no_list_is_named(
    scheme: str, body: bytes, pair: Callable[[str], tuple[Double, Consumer]]
) -> None:
    from webhooks.sources import ApiMalformed

    double, consumer = pair(scheme)
    token: Any = (200, {"access_token": "token-0", "expires_in": 60}, {})
    double.failures = [token, (200, body, {})] if scheme == "paypal" else [(200, body, {})]
    with pytest.raises(ApiMalformed, match="is api_url right"):
        catch_up(consumer, scheme, DAY)


@pytest.mark.parametrize("scheme", ["stripe", "paypal", "github"])
def test_doctor_asks_whether_the_key_is_right_and_for_no_subscription(
    scheme: str, pair: Callable[[str], tuple[Double, Consumer]]
) -> None:
    double, consumer = pair(scheme)
    doctor = consumer.webhooks.make_doctor("test")
    texts = [finding.text for finding in diagnose(doctor.collect())]
    assert not any("subscription" in text or "cannot be asked" in text for text in texts)
    double.failures = [(401, {}, {})]
    texts = [finding.text for finding in diagnose(doctor.collect())]
    assert any(f"cannot be asked for what never came of {scheme}" in text and "(401)" in text for text in texts)


def test_a_source_without_a_key_is_as_one_that_cannot_be_asked(make: Callable[..., Consumer]) -> None:
    from webhooks.sources import with_log

    consumer = make("stripe", "**", secret=SECRET)
    assert with_log(consumer.webhooks.sources["stripe"]) is None
    doctor = consumer.webhooks.make_doctor("test")
    assert not any("asked" in finding.text for finding in diagnose(doctor.collect()))


def test_the_command_catches_up_with_the_source_that_it_is_given(
    stripe: Any, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the handlers that other tests of this process have loaded, none of which wants these
    monkeypatch.setattr("webhooks.app.webhooks.default_registry", Registry())
    double, _ = stripe("charge.**")
    double.events = [{**charge(1, HOUR), "created": int(datetime.now(UTC).timestamp()) - 3600}]
    section = {"SECRET": SECRET, "API_KEY": StripeDouble.KEY, "API_URL": double.url}
    for name, value in section.items():
        monkeypatch.setenv(f"WEBHOOKS_SOURCES__stripe__{name}", value)
    monkeypatch.setenv("WEBHOOKS_SOURCES__shop__SECRET", SECRET)
    monkeypatch.setenv("WEBHOOKS_SOURCES__shop__SCHEME", "shopify")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    for argument, added in ((["--source", "stripe", "--since", "2h"], 1), (["stripe"], 0), ([], 0)):
        result = CliRunner().invoke(group, ["catch-up", *argument, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["repaired"] == added
    refused = CliRunner().invoke(group, ["catch-up", "shop"])
    assert "the sender of source 'shop' keeps no event log that can be read; sources with one: stripe" in refused.output

"""`webhooks doctor` over a real database and the local Close: it finds what was broken, and --fix mends what is safe."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from click.testing import CliRunner

from tests.integration.local_close import Pair
from tests.integration.test_cli import DEAD, Cli
from tests.support import Clock
from webhooks.app import Webhooks
from webhooks.cli import group
from webhooks.database.migrations import run as migrate
from webhooks.model import DeliveryClass, Disposition
from webhooks.operations.doctor import checks
from webhooks.routing import Registry
from webhooks.sandbox.accounts import ADMIN
from webhooks.settings import Secret
from webhooks.store.deliveries import Finished
from webhooks.store.durability import Doubt
from webhooks.store.tallies import UNTIMED, Kind

pytestmark = pytest.mark.one_database

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture(autouse=True)
def _on_a_synced_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' server does not sync, and their directory may be anywhere; of that only `test_durability.py` speaks."""
    monkeypatch.setattr("webhooks.store.durability.Durability.doubts", lambda self: [])


def handle(event: Any) -> None: ...


def leads(**options: Any) -> Registry:
    registry = Registry()
    registry.add(handle, "lead.created", source="close", name="h", **options)
    return registry


@pytest.fixture
def make_pair(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    """Pairs whose clock shows the real time: what the database's clock says is compared with it."""
    made: list[Pair] = []

    def make(**options: Any) -> Pair:
        clock = Clock(datetime.now(UTC))
        made.append(Pair(database_url, tmp_path, clock, **{"registry": leads(), "events": ["lead.created"], **options}))
        return made[-1]

    yield make
    for pair in made:
        pair.stop()


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


def examine(pair: Pair, *arguments: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """{code: finding} of `webhooks doctor --json`."""
    result = Cli(pair.webhooks)("doctor", "--json", "--strict", *arguments)
    assert result.exit_code == code, result.output
    return {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}


def lead(pair: Pair) -> None:
    pair.world.create("lead", {"name": "x"}, by=ADMIN)


def test_an_installation_that_works_is_said_to_work(pair: Pair) -> None:
    pair.webhooks.background.write_soon = lambda write: write()
    lead(pair)
    pair.deliver()
    pair.catch_up(since=HOUR)
    Cli(pair.webhooks).run("h")
    assert examine(pair, code=0) == {}
    result = Cli(pair.webhooks)("doctor")
    assert (result.stdout, result.stderr.strip()) == ("", "nothing is wrong")


def test_a_paused_subscription_is_found_and_fix_resumes_it_and_catches_up(pair: Pair) -> None:
    lead(pair)
    pair.deliver()
    pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
    lead(pair)
    found = examine(pair)["subscription-paused"]
    assert pair.webhooks.store.gauges.read().paused == {"close": 1}
    assert found["command"] == f"webhooks subscriptions resume {pair.subscription.id}"
    assert found["fix"] == "resume"
    result = Cli(pair.webhooks)("doctor", "--fix")
    assert f"repaired: {pair.subscription.id} is resumed" in result.stderr
    assert "repaired: caught up with close" in result.stderr
    assert pair.world.subscriptions.find(pair.subscription.id).is_active  # type: ignore[union-attr]
    assert pair.stored() == pair.log()
    assert "subscription-paused" not in examine(pair, code=result.exit_code)
    assert pair.webhooks.store.gauges.read().paused == {"close": 0}


def test_what_was_paused_on_purpose_is_not_resumed_by_fix(pair: Pair) -> None:
    pair.world.subscriptions.find(pair.subscription.id).pause("api")  # type: ignore[union-attr]
    assert examine(pair, "--fix")["subscription-paused"]["fix"] is None
    assert not pair.world.subscriptions.find(pair.subscription.id).is_active  # type: ignore[union-attr]


def test_types_that_handlers_lack_are_subscribed_to_by_fix_and_nothing_is_taken_away(
    make_pair: Callable[..., Pair],
) -> None:
    pair = make_pair(events=["contact.created"])
    found = examine(pair)["types-not-subscribed"]
    assert found["command"] == "webhooks subscriptions sync"
    examine(pair, "--fix", code=0)
    events = pair.world.subscriptions.find(pair.subscription.id).events  # type: ignore[union-attr]
    assert [f"{each['object_type']}.{each['action']}" for each in events] == ["contact.created", "lead.created"]


def test_a_missing_key_is_fetched_by_fix_and_never_shown(pair: Pair) -> None:
    pair.secret_file.write_text(
        json.dumps({"other": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"})
    )
    pair.source.keys.refresh()
    assert examine(pair)["key-missing"]["subject"] == pair.subscription.id
    result = Cli(pair.webhooks)("doctor", "--fix")
    assert "has its key held" in result.stderr
    assert pair.subscription.signature_key not in result.output
    lead(pair)
    assert pair.deliver() == 1


def test_without_an_api_key_it_works_and_says_what_it_could_not_check(pair: Pair) -> None:
    pair.source.api = replace(pair.source.api, key=None)
    found = examine(pair, code=0)
    assert "set WEBHOOKS_SOURCES__close__API_KEY" in found["not-checked"]["text"]
    assert found["not-checked"]["level"] == "note"


def test_a_key_that_close_refuses_is_an_error_and_the_rest_is_still_checked(pair: Pair) -> None:
    pair.source.api = replace(pair.source.api, key=Secret("api_nobody"))
    pair.webhooks.store.quarantine.put(
        "close", b"x", reason="r", kind="unparseable", received_at=pair.clock(), headers="{}"
    )
    assert {"api-refused", "quarantine"} <= examine(pair).keys()


def test_a_schema_that_is_not_at_head_is_found(pair: Pair) -> None:
    with pair.webhooks.database.write() as connection:
        connection.exec_driver_sql("update webhooks_version set version_num = '0001'")
    try:
        found = examine(pair)
    finally:
        with pair.webhooks.database.write() as connection:
            connection.exec_driver_sql(f"update webhooks_version set version_num = '{migrate.core().head}'")
    assert found["schema-behind"]["command"] == "webhooks db upgrade"


def test_a_database_that_is_away_is_found_and_the_subscriptions_still_looked_at(
    tmp_path: Path, sqlite_url: str
) -> None:
    clock = Clock()
    pair = Pair(sqlite_url, tmp_path, clock, registry=leads())
    try:
        pair.webhooks.database.dispose()
        moved = tmp_path / "moved"
        shutil.move(sqlite_url.removeprefix("sqlite:///"), moved)
        (tmp_path / "webhooks.db").mkdir()
        pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
        assert {"database-away", "subscription-paused"} <= examine(pair).keys()
        (tmp_path / "webhooks.db").rmdir()
    finally:
        pair.stop()


def test_orphans_dead_deliveries_and_blocked_lanes_are_found(make_pair: Callable[..., Pair], database_url: str) -> None:
    pair = make_pair(registry=leads(ordered_by=lane))
    for _ in range(3):
        lead(pair)
    pair.deliver()
    deliveries = pair.webhooks.store.deliveries
    claimed = deliveries.claim({("h", DeliveryClass.FRESH): 10}, lease=HOUR, worker="w")
    deliveries.finish([Finished(each.delivery, DEAD, holds_lane=True) for each in claimed])
    found = examine(pair)
    assert "1 lane stuck behind a dead delivery, with 2 deliveries waiting there" in found["lane-blocked"]["text"]
    assert found["lane-blocked"]["command"] == "webhooks requeue --handler h --state dead"
    other = Webhooks(
        registry=Registry(),
        overrides={"database_url": database_url, "sources": {"close": {"secret_file": str(pair.secret_file)}}},
        environ={},
    ).assemble(role="cli")
    try:
        result = json.loads(Cli(other)("doctor", "--json").stdout)
    finally:
        other.close()
    codes = {finding["code"]: finding for finding in result["findings"]}
    assert "handler 'h', which neither this directory" in codes["orphaned-deliveries"]["text"]


def lane(event: Any) -> str:
    return "one"


def test_events_that_older_code_took_in_are_found_with_a_replay_that_works(pair: Pair) -> None:
    lead(pair)
    pair.deliver()
    Cli(pair.webhooks).run("h")
    # well after the first delivery was made, by the server's clock, which goes on while this test waits for the machine
    pair.clock.move(timedelta(seconds=30))
    # a web process with older code: no delivery was made for this one
    lead(pair)
    pair.deliver()
    Cli(pair.webhooks).run("h")
    with pair.webhooks.database.write() as connection:
        connection.exec_driver_sql(
            "delete from webhooks_deliveries where event_id = (select max(id) from webhooks_events)"
        )
    found = examine(pair)["events-without-delivery"]
    assert found["level"] == "warning"
    result = Cli(pair.webhooks)(*found["command"].split()[1:], "--yes")
    assert result.exit_code == 0, result.output
    assert "events-without-delivery" not in examine(pair, code=0)


def test_every_command_that_a_finding_names_exists(pair: Pair) -> None:
    named = set(
        re.findall(
            r"webhooks ((?:[a-z-]+)(?: (?:sync|resume|rotate|list|cancel|upgrade))?)\b",
            "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*checks.py")),
        )
    )
    assert {"subscriptions sync", "requeue", "replay", "db upgrade", "catch-up"} <= named
    for command in named:
        result = CliRunner().invoke(group, [*command.split(), "--help"])
        assert result.exit_code == 0, command


def test_settings_that_stop_the_start_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "webhooks.toml").write_text('[sources.close]\nsecret = "short"\n')
    result = CliRunner().invoke(group, ["doctor", "--json"])
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["code"] == "settings"
    assert "nothing can start: source 'close': secret '1'" in finding["text"]


def test_the_key_in_use_elsewhere_is_not_called_unused(pair: Pair) -> None:
    """What verified deliveries in other processes counts."""
    lead(pair)
    pair.deliver()
    pair.webhooks.store.key_uses.note("close", pair.subscription.id, pair.clock())
    assert "key-never-matched" not in examine(pair, code=0)
    pair.secret_file.write_text(
        json.dumps(
            {
                pair.subscription.id: pair.subscription.signature_key,
                "whsub_old": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            }
        )
    )
    pair.source.keys.refresh()
    assert examine(pair)["key-never-matched"]["subject"] == "whsub_old"


def test_nothing_that_is_shown_holds_a_key(pair: Pair) -> None:
    pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
    said = Cli(pair.webhooks)("doctor", "--fix").output + Cli(pair.webhooks)("doctor", "--json").output
    assert pair.subscription.signature_key not in said
    assert "api_local" not in said


def test_a_source_that_waits_for_its_first_key_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "webhooks.toml").write_text('[sources.close]\nsecret_file = "keys.json"\n')
    result = CliRunner().invoke(group, ["doctor"])
    assert result.exit_code == 1
    assert "the secret file 'keys.json' cannot be read" in result.stdout
    assert "-> webhooks subscriptions create" in result.stdout


def test_a_trial_write_that_is_refused_is_an_error_and_leaves_no_row(pair: Pair) -> None:
    database = pair.webhooks.database
    assert "writes-refused" not in examine(pair, code=0)
    if database.is_sqlite:
        do = "create trigger t before insert on webhooks_events begin select raise(abort, 'audit table is full'); end"
        undo = "drop trigger t"
    else:
        do = (
            "create function f() returns trigger as 'begin raise exception ''full''; end' language plpgsql;"
            "create trigger t before insert on webhooks_events for each row execute function f()"
        )
        undo = "drop function f cascade"
    with database.raw() as connection:
        (connection.executescript if database.is_sqlite else connection.execute)(do)
    try:
        found = examine(pair)["writes-refused"]
    finally:
        with database.raw() as connection:
            (connection.executescript if database.is_sqlite else connection.execute)(undo)
    assert found["level"] == "error"
    assert "a trigger that is not ours" in found["text"]
    assert "full" in found["text"]  # what it raised: the trial holds nothing to hide
    with database.read() as reader:
        assert reader.exec_driver_sql("select count(*) from webhooks_events").scalar() == 0


def test_what_a_2xx_rests_on_is_named_with_its_fix(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    doubts = [
        Doubt("fsync-off", "syncing is off", "psql"),
        Doubt("journal-apart", "the journal is elsewhere", is_loss=True),
    ]
    monkeypatch.setattr("webhooks.store.durability.Durability.doubts", lambda self: doubts)
    found = examine(pair)
    assert (found["fsync-off"]["level"], found["fsync-off"]["command"]) == ("warning", "psql")
    assert found["journal-apart"]["level"] == "error"


def test_copies_that_were_kept_as_conflicts_are_named(pair: Pair) -> None:
    conflict = (Kind.REQUESTS, "close", Disposition.CONFLICT.code, UNTIMED)
    pair.webhooks.store.tallies.add(
        [(0.0, {conflict: 3, (Kind.REQUESTS, "close", Disposition.STORED.code, UNTIMED): 5})]
    )
    found = examine(pair)["conflicts"]
    assert "about 3 requests of the last day had another body under a known key" in found["text"]
    assert found["command"] == "webhooks events list --source close --since 1d"

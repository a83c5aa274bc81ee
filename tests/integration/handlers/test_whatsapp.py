"""The plugin `whatsapp`: conversations end in the right state, whatever comes when."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from handlers import whatsapp
from tests.integration.handlers.histories import Bench, made, sample
from webhooks.model import Event

pytestmark = pytest.mark.one_database

PLUGINS = ("whatsapp",)

INCOMING = "acti_UeKPVIqd4hcVmcQEdCG0ycXXGV4Px3JMZVXIs1M1xPI"
REPLY = "acti_bUwpKHKzDmfVeUdt0G3duf5RXGlHdTDVEetC29jhkdf"
FILE = {"url": "https://app.close.com/go/file/1", "filename": "a.pdf", "content_type": "application/pdf", "size": 3}


def message(action: str, id: str, at: int, **data: Any) -> Event:
    return made(whatsapp.OBJECT_TYPE, action, id, at, data)


def shown(bench: Bench) -> dict[str, Any]:
    """{id: the message}, of those that are not deleted."""
    found: dict[str, Any] = bench.ask(whatsapp.mirrors)[whatsapp.OBJECT_TYPE]
    return found


def test_a_message_is_kept_with_its_attachments_and_its_link(bench: Bench) -> None:
    event = sample("whatsapp_message_created_incoming")

    bench.run(whatsapp.mirror, event)

    kept = shown(bench)[INCOMING]
    assert kept["text"] == event.data["text"]
    assert kept["integration_link"] == event.data["integration_link"]
    assert [file["filename"] for file in kept["attachments"]] == [
        file["filename"] for file in event.data["attachments"]
    ]
    assert kept["activity_at"] == datetime.fromisoformat(event.data["activity_at"])
    assert [file["size"] for file in bench.ask(whatsapp.files_of, INCOMING)] == [
        file["size"] for file in event.data["attachments"]
    ]


SAMPLES = (
    "whatsapp_message_created_reply_own_api_key",
    "whatsapp_message_updated",
    "whatsapp_message_updated_revision",
)


@pytest.mark.parametrize("order", range(6))
def test_the_latest_text_stays_in_every_order(bench: Bench, order: int) -> None:
    bench.run_all(whatsapp.mirror, map(sample, list(itertools.permutations(SAMPLES))[order]))

    assert shown(bench)[REPLY]["text"] == sample("whatsapp_message_updated_revision").data["text"]


def test_a_deleted_message_does_not_come_back(bench: Bench) -> None:
    for number, order in enumerate(itertools.permutations(range(3))):
        id = f"acti_{number}"
        history = [
            message("created", id, 0, text="one", attachments=[FILE]),
            message("updated", id, 1, text="two", attachments=[FILE]),
            message("deleted", id, 2, text="two"),
        ]
        bench.run_all(whatsapp.mirror, [history[place] for place in order])

        assert shown(bench) == {}
        assert bench.ask(whatsapp.files_of, id) == []


def test_nothing_of_a_deleted_message_but_its_ids_is_kept(bench: Bench) -> None:
    bench.run(whatsapp.mirror, message("created", "acti_1", 0, text="private", contact_id="cont_1"))
    bench.run(whatsapp.mirror, message("deleted", "acti_1", 1, text="private", contact_id="cont_1"))

    with bench.database.read() as connection:
        (row,) = connection.exec_driver_sql("select * from whatsapp_messages").mappings()
    assert {name for name, value in row.items() if value is not None} == {"id", "shown_at", "deleted_at"}


def test_an_edit_that_takes_an_attachment_away_takes_it_away_here(bench: Bench) -> None:
    bench.run(whatsapp.mirror, message("created", "acti_1", 0, attachments=[FILE, FILE | {"filename": "b.pdf"}]))
    bench.run(whatsapp.mirror, message("updated", "acti_1", 1, attachments=[FILE | {"filename": "b.pdf"}]))

    assert [file["filename"] for file in bench.ask(whatsapp.files_of, "acti_1")] == ["b.pdf"]


def test_a_late_edit_leaves_the_attachments_of_the_newer_state_alone(bench: Bench) -> None:
    bench.run(whatsapp.mirror, message("updated", "acti_1", 2, attachments=[FILE]))
    bench.run(whatsapp.mirror, message("updated", "acti_1", 1, attachments=[]))

    assert len(bench.ask(whatsapp.files_of, "acti_1")) == 1


THREAD = [
    message("created", "acti_1", 0, activity_at="2026-03-10T12:00:00+00:00"),
    message("created", "acti_2", 1, activity_at="2026-03-10T12:00:01+00:00", response_to_id="acti_1"),
    message("created", "acti_3", 2, activity_at="2026-03-10T12:00:02+00:00", response_to_id="acti_2"),
    message("created", "acti_4", 3, activity_at="2026-03-10T12:00:03+00:00", response_to_id="acti_1"),
]


@pytest.mark.parametrize("seen_from", ["acti_1", "acti_2", "acti_3", "acti_4"])
def test_a_thread_is_whole_wherever_one_looks_from_and_whatever_came_first(bench: Bench, seen_from: str) -> None:
    bench.run_all(whatsapp.mirror, reversed(THREAD))
    bench.run(whatsapp.mirror, message("created", "acti_other", 4))

    assert [row["id"] for row in bench.ask(whatsapp.thread, seen_from)] == ["acti_1", "acti_2", "acti_3", "acti_4"]


def test_answers_to_a_message_that_never_came_are_one_thread(bench: Bench) -> None:
    bench.run_all(whatsapp.mirror, THREAD[1:])

    assert [row["id"] for row in bench.ask(whatsapp.thread, "acti_4")] == ["acti_2", "acti_3", "acti_4"]


def test_a_deleted_message_still_holds_its_thread_together(bench: Bench) -> None:
    bench.run_all(whatsapp.mirror, THREAD)
    bench.run(whatsapp.mirror, message("deleted", "acti_2", 9, response_to_id="acti_1"))

    assert [row["id"] for row in bench.ask(whatsapp.thread, "acti_3")] == ["acti_1", "acti_3", "acti_4"]


def test_a_deletion_without_its_former_object_keeps_the_thread_too(bench: Bench) -> None:
    bench.run_all(whatsapp.mirror, THREAD)
    bench.run(whatsapp.mirror, message("deleted", "acti_2", 9))

    assert [row["id"] for row in bench.ask(whatsapp.thread, "acti_3")] == ["acti_1", "acti_3", "acti_4"]


def test_messages_that_answer_each_other_in_a_ring_end_the_walk(bench: Bench) -> None:
    bench.run(whatsapp.mirror, message("created", "acti_1", 0, response_to_id="acti_2"))
    bench.run(whatsapp.mirror, message("created", "acti_2", 1, response_to_id="acti_1"))

    assert {row["id"] for row in bench.ask(whatsapp.thread, "acti_1")} == {"acti_1", "acti_2"}


def test_a_conversation_is_in_the_order_of_its_messages(bench: Bench) -> None:
    for at in (3, 1, 2):
        bench.run(
            whatsapp.mirror,
            message("created", f"acti_{at}", at, contact_id="cont_1", activity_at=f"2026-03-10T12:00:0{at}+00:00"),
        )
    bench.run(whatsapp.mirror, message("deleted", "acti_2", 5))

    rows = bench.ask(whatsapp.conversation, "cont_1")

    assert [row["id"] for row in rows] == ["acti_1", "acti_3"]
    assert rows[0]["activity_at"] == datetime(2026, 3, 10, 12, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d", "\udc00"])
def test_text_that_postgresql_cannot_store_is_kept_without_what_it_cannot(bench: Bench, text: str) -> None:
    bench.run(whatsapp.mirror, message("created", "acti_1", 0, text=text))

    assert shown(bench)["acti_1"]["text"] in ("ab", "half ?", "?")


@pytest.mark.parametrize("data", [{}, {"text": 5, "attachments": "no", "lead_id": ["x"]}, {"attachments": [None, {}]}])
def test_a_message_of_a_shape_that_nobody_expected_is_kept_as_far_as_it_can_be_read(
    bench: Bench, data: dict[str, Any]
) -> None:
    bench.run(whatsapp.mirror, message("created", "acti_1", 0, **data))

    assert shown(bench)["acti_1"]["text"] is None


def test_an_event_without_an_object_changes_nothing(bench: Bench) -> None:
    event = made(whatsapp.OBJECT_TYPE, "updated", "", 0, None, object_id=None)

    bench.run(whatsapp.mirror, event)

    assert shown(bench) == {}

"""Random histories of a local Close, for property tests: the same choices make the same history.

`play(world, choose, steps)` does `steps` things that the rules allow. `choose(n)` picks one of n: a seeded generator
(`by_seed`), or a hypothesis strategy that can shrink what it finds. All kinds of objects come up, also merges,
cascades, revisions and mail that leaves by itself; the time between two steps is now and then short enough for the
log to consolidate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from webhooks.sandbox.accounts import ADMIN, APPLICATION, MEMBER, NOBODY, Caller
from webhooks.sandbox.resources.emails import send_due
from webhooks.sandbox.resources.resource import Object
from webhooks.sandbox.world import World

#: Picks a number from 0 to below n.
Choose = Callable[[int], int]

_ACTORS = (ADMIN, MEMBER, APPLICATION)
_WORDS = ("roof", "survey", "Tuesday", "*bold*", "café", "🏠", "")
_SENDERS = (None, "rosa@quayside.example", '"Tomasz Brandt" <tomasz@harbourline.example>')
_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (0, 0.002, 1, 3, 4.999, 5, 30, 3600))


def by_seed(seed: int) -> Choose:
    """Choices of a seeded generator."""
    return random.Random(seed).randrange


class _Player:
    """Knows what may be done now."""

    def __init__(self, world: World, choose: Choose) -> None:
        self.world = world
        self.choose = choose
        self._number = 0

    def one(self, things: Sequence[Any]) -> Any:
        return things[self.choose(len(things))]

    def actor(self) -> Caller:
        return _ACTORS[self.choose(len(_ACTORS))]

    def words(self) -> str:
        return " ".join(_WORDS[self.choose(len(_WORDS))] for _ in range(self.choose(3) + 1))

    def existing(self, kind: str) -> Object | None:
        made = list(self.world.table(kind).values())
        return made[self.choose(len(made))] if made else None

    def lead_id(self) -> str:
        lead = self.existing("lead") or self.world.create("lead", {"name": "First"}, by=ADMIN)
        return str(lead["id"])

    # -- what can happen ------------------------------------------------------------------------------------

    def add_lead(self) -> None:
        self.world.create(
            "lead", {"name": self.words().strip() or None, "contacts": [{"name": "Nested"}]}, self.actor()
        )

    def rename_lead(self) -> None:
        self.world.update("lead", self.lead_id(), {"name": self.words().strip() or None}, self.actor())

    def qualify_lead(self) -> None:
        self.world.update("lead", self.lead_id(), {"status": self.one(("Potential", "Qualified"))}, self.actor())

    def set_custom_field(self) -> None:
        value = self.one((None, "Flat roof", ["West", "Coast"], 3))
        self.world.update("lead", self.lead_id(), {"custom.cf_M7smkB26rNOt": value}, self.actor())

    def delete_lead(self) -> None:
        self.world.delete("lead", self.lead_id(), self.actor())

    def merge_leads(self) -> None:
        source, destination = self.lead_id(), self.lead_id()
        if source != destination:
            self.world.merge_leads(source, destination, self.actor())

    def add_contact(self) -> None:
        lead_id = None if self.choose(2) else self.lead_id()
        self.world.create("contact", {"name": self.words() or None, "lead_id": lead_id}, self.actor())

    def change_contact(self) -> None:
        if contact := self.existing("contact"):
            changes = {"title": self.words(), "emails": [{"email": f"a{self.choose(3)}@quayside.example"}]}
            self.world.update("contact", contact["id"], changes, self.actor())

    def delete_contact(self) -> None:
        self._delete("contact")

    def add_opportunity(self) -> None:
        lead_id = None if self.choose(2) else self.lead_id()
        self.world.create("opportunity", {"lead_id": lead_id, "value": self.choose(10) * 1000}, self.actor())

    def change_opportunity(self) -> None:
        if deal := self.existing("opportunity"):
            changes = {"status": self.one(("Active", "Won", "Lost")), "confidence": self.choose(101)}
            self.world.update("opportunity", deal["id"], changes, self.actor())

    def delete_opportunity(self) -> None:
        self._delete("opportunity")

    def add_outcome(self) -> None:
        kind = self.one(("custom", "vm-dropped"))
        self.world.create("outcome", {"name": f"Outcome {self.words()}", "type": kind}, self.actor())

    def rename_outcome(self) -> None:
        if outcome := self.existing("outcome"):
            self.world.update("outcome", outcome["id"], {"name": f"Renamed {self.words()}"}, self.actor())

    def delete_outcome(self) -> None:
        self._delete("outcome")

    def log_call(self) -> None:
        self.world.create("activity.call", {"lead_id": self.lead_id(), "duration": self.choose(3) * 60}, self.actor())

    def finish_call(self) -> None:
        if call := self.existing("activity.call"):
            changes = {"outcome_id": self._outcome_id("calls"), "duration": self.choose(600)}
            self.world.update("activity.call", call["id"], changes, self.actor())

    def delete_call(self) -> None:
        self._delete("activity.call")

    def hold_meeting(self) -> None:
        meeting = self.existing("activity.meeting")
        if meeting is None or self.choose(2):
            self.world.create("activity.meeting", {"lead_id": self.lead_id(), "title": self.words()}, self.actor())
        else:
            changes = {"outcome_id": self._outcome_id("meetings"), "status": self.one(("completed", "canceled"))}
            self.world.update("activity.meeting", meeting["id"], changes, self.actor())

    def take_note(self) -> None:
        self.world.create("activity.note", {"lead_id": self.lead_id(), "note": self.words()}, self.actor())

    def draft_email(self) -> None:
        draft = {"lead_id": self.lead_id(), "status": "draft", "sender": self.one(_SENDERS), "subject": self.words()}
        self.world.create("activity.email", draft, self.actor())

    def receive_email(self) -> None:
        mail = {"lead_id": self.lead_id(), "status": "inbox", "sender": "rosa@quayside.example"}
        self.world.create("activity.email", {**mail, "body_text": self.words()}, NOBODY)

    def log_sent_email(self) -> None:
        self.world.create("activity.email", {"lead_id": self.lead_id(), "status": "sent"}, self.actor())

    def change_email(self) -> None:
        email = self.existing("activity.email")
        if email is None or email["status"] == "sent":
            return
        if email["status"] == "draft" and self.choose(2):
            changes: Object = {"status": "outbox", "sender": email["sender"] or _SENDERS[2]}
        else:
            changes = {"subject": self.words(), "to": ["rosa@quayside.example"][: self.choose(2)]}
        self.world.update("activity.email", email["id"], changes, self.actor())

    def fail_email(self) -> None:
        email = self.existing("activity.email")
        if email is not None and email["status"] == "outbox":
            self.world.update("activity.email", email["id"], {"status": "error"}, self.actor())

    def delete_email(self) -> None:
        self._delete("activity.email")

    def add_message(self) -> None:
        answered = self.existing("activity.whatsapp_message") if self.choose(2) else None
        self._number += 1
        message = {
            "lead_id": self.lead_id(),
            "direction": self.one(("incoming", "outgoing")),
            "external_whatsapp_message_id": f"wamid.{self._number}",
            "message_markdown": self.words(),
            "response_to_id": answered["id"] if answered else None,
            "integration_link": self.one((None, f"https://parley.example/messages/{self._number}")),
            "attachments": [self._attachment() for _ in range(self.choose(3))],
        }
        self.world.create("activity.whatsapp_message", message, self.actor())

    def edit_message(self) -> None:
        if message := self.existing("activity.whatsapp_message"):
            changes: Object = self.one(({"message_markdown": self.words()}, {"attachments": [self._attachment()]}))
            self.world.update("activity.whatsapp_message", message["id"], changes, self.actor())

    def delete_message(self) -> None:
        self._delete("activity.whatsapp_message")

    def add_task(self) -> None:
        self.world.create("task.lead", {"lead_id": self.lead_id(), "text": self.words()}, self.actor())

    def finish_task(self) -> None:
        if task := self.existing("task.lead"):
            self.world.update("task.lead", task["id"], {"is_complete": bool(self.choose(3))}, self.actor())

    def _delete(self, kind: str) -> None:
        if made := self.existing(kind):
            self.world.delete(kind, made["id"], self.actor())

    def _outcome_id(self, what: str) -> str | None:
        fitting = [each["id"] for each in self.world.table("outcome").values() if what in each["applies_to"]]
        return str(fitting[self.choose(len(fitting))]) if fitting else None

    def _attachment(self) -> Object:
        name = f"photo-{self.choose(5)}.jpg"
        url = f"https://app.close.com/go/file/persisted/{name}"
        return {"url": url, "filename": name, "content_type": "image/jpeg", "size": self.choose(10_000)}


#: {what can happen: how often, beside the others}
_WEIGHTS = {
    "add_lead": 1,
    "rename_lead": 1,
    "qualify_lead": 1,
    "set_custom_field": 1,
    "delete_lead": 1,
    "merge_leads": 2,
    "add_contact": 2,
    "change_contact": 1,
    "delete_contact": 1,
    "add_opportunity": 2,
    "change_opportunity": 1,
    "delete_opportunity": 1,
    "add_outcome": 1,
    "rename_outcome": 1,
    "delete_outcome": 1,
    "log_call": 2,
    "finish_call": 2,
    "delete_call": 1,
    "hold_meeting": 2,
    "take_note": 1,
    "draft_email": 2,
    "receive_email": 1,
    "log_sent_email": 1,
    "change_email": 3,
    "fail_email": 1,
    "delete_email": 1,
    "add_message": 3,
    "edit_message": 3,
    "delete_message": 1,
    "add_task": 1,
    "finish_task": 1,
}
_STEPS = tuple(name for name, weight in _WEIGHTS.items() for _ in range(weight))


def play(world: World, choose: Choose, steps: int) -> list[str]:
    """Do `steps` random things; returns their names. Mail leaves the outbox as the time moves on."""
    player = _Player(world, choose)
    done = []
    for _ in range(steps):
        name = _STEPS[choose(len(_STEPS))]
        with world.lock:
            getattr(player, name)()
            world.advance(_PAUSES[choose(len(_PAUSES))])
            send_due(world.objects)
        done.append(name)
    return done


def play_seed(world: World, seed: int, steps: int = 100) -> list[str]:
    """`play` with a seeded generator."""
    return play(world, by_seed(seed), steps)

"""A short story for demonstrations and tests: a lead from a contact, a conversation, a call, a mail, a merge.

Each step does one thing through the world's API and says it in a sentence. `webhooks dev --demo` plays the steps one
after another; `STORY.tell(world)` plays all of them at once and returns the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from webhooks.sandbox.accounts import ADMIN, APPLICATION, MEMBER
from webhooks.sandbox.world import World


@dataclass
class Cast:
    """What the steps made so far, by the name that the story has for it: {name: id}."""

    ids: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.ids[name]

    def keep(self, name: str, made: dict[str, Any]) -> dict[str, Any]:
        """Remember the id of what was made under this name; returns what was made."""
        self.ids[name] = made["id"]
        return made


@dataclass(frozen=True)
class Step:
    """One thing that happens. pause: how long a listener should be given before it."""

    sentence: str
    act: Callable[[World, Cast], object]
    pause: timedelta = timedelta(seconds=1)


@dataclass(frozen=True)
class Story:
    steps: tuple[Step, ...]

    def play(self, world: World) -> Iterator[Step]:
        """Do the steps one by one; each is handed out after it was done."""
        cast = Cast()
        for step in self.steps:
            step.act(world, cast)
            yield step

    def tell(self, world: World, apart: timedelta = timedelta(seconds=30)) -> list[str]:
        """Do all steps, moving the world's time on between them; returns the sentences."""
        sentences = []
        for step in self.play(world):
            sentences.append(step.sentence)
            world.advance(apart)
        return sentences


def _rosa(world: World, cast: Cast) -> None:
    contact = {
        "name": "Rosa Lindqvist",
        "title": "Owner",
        "emails": [{"email": "rosa.lindqvist@quayside.example"}],
        "phones": [{"phone": "+33639980177", "type": "mobile"}],
    }
    made = cast.keep("rosa", world.create("contact", contact, by=ADMIN))
    cast.ids["lead"] = made["lead_id"]


def _photos(world: World, cast: Cast) -> None:
    message = {
        "contact_id": cast["rosa"],
        "direction": "incoming",
        "external_whatsapp_message_id": "wamid.HBgLMzMxOTk1NTUwMTQ2FQIAEhggN0Q5",
        "message_markdown": "Bonjour ! Voici les photos du toit *côté nord* 🏠",
        "local_phone": "+33199550142",
        "remote_phone": "+33639980177",
        "integration_link": "https://parley.example/threads/4410/messages/88213",
        "attachments": [
            {
                "url": "https://app.close.com/go/file/persisted/4kQm1s/toit-nord-1.jpg",
                "filename": "toit-nord-1.jpg",
                "content_type": "image/jpeg",
                "size": 1843201,
            }
        ],
    }
    params = {"send_to_inbox": "true"}
    cast.keep("photos", world.create("activity.whatsapp_message", message, by=APPLICATION, params=params))


def _reply(world: World, cast: Cast) -> None:
    message = {
        "contact_id": cast["rosa"],
        "direction": "outgoing",
        "external_whatsapp_message_id": "wamid.HBgLMzMxOTk1NTUwMTQ2FQIAERgSQjY5",
        "message_markdown": "Merci Rosa, je vous rappelle demain à 9h.",
        "local_phone": "+33199550142",
        "remote_phone": "+33639980177",
        "response_to_id": cast["photos"],
    }
    cast.keep("reply", world.create("activity.whatsapp_message", message, by=MEMBER))


def _edit(world: World, cast: Cast) -> None:
    edited = {"message_markdown": "Merci Rosa, je vous rappelle demain à 10h30."}
    world.update("activity.whatsapp_message", cast["reply"], edited, by=APPLICATION)


def _outcome(world: World, cast: Cast) -> None:
    outcome = {"name": "Survey booked", "description": "Survey visit agreed with the homeowner."}
    cast.keep("outcome", world.create("outcome", outcome, by=ADMIN))


def _call(world: World, cast: Cast) -> None:
    call = {"contact_id": cast["rosa"], "phone": "+33639980177", "duration": 341, "disposition": "answered"}
    cast.keep("call", world.create("activity.call", call, by=MEMBER))


def _result(world: World, cast: Cast) -> None:
    result = {"outcome_id": cast["outcome"], "note": "Wants the survey before Easter."}
    world.update("activity.call", cast["call"], result, by=MEMBER)


def _draft(world: World, cast: Cast) -> None:
    draft = {"contact_id": cast["rosa"], "status": "draft", "subject": "Your roof survey", "body_text": "Hello Rosa,\n"}
    cast.keep("mail", world.create("activity.email", draft, by=MEMBER))


def _post(world: World, cast: Cast) -> None:
    finished = {
        "status": "outbox",
        "sender": '"Tomasz Brandt" <tomasz@harbourline.example>',
        "to": ["rosa.lindqvist@quayside.example"],
        "body_text": "Hello Rosa,\n\nThe survey is on Tuesday at 10:30.\n",
    }
    world.update("activity.email", cast["mail"], finished, by=MEMBER)


def _deal(world: World, cast: Cast) -> None:
    deal = world.create("opportunity", {"value": 1850000, "confidence": 75}, by=ADMIN)
    cast.ids["untitled"] = deal["lead_id"]
    cast.keep("deal", deal)


def _merge(world: World, cast: Cast) -> None:
    world.merge_leads(cast["untitled"], cast["lead"], by=ADMIN)


def _win(world: World, cast: Cast) -> None:
    world.update("opportunity", cast["deal"], {"status": "Won", "note": "Signed on site."}, by=MEMBER)


STORY = Story(
    (
        Step("Rosa Lindqvist is added as a contact; Close makes a lead for her.", _rosa),
        Step("Rosa sends photos of her roof over WhatsApp.", _photos),
        Step("Tomasz answers her message.", _reply),
        Step("He corrects the time he gave.", _edit, timedelta(seconds=2)),
        Step("Ines adds an outcome, 'Survey booked'.", _outcome),
        Step("Tomasz logs a call of 341 seconds.", _call),
        Step("The call gets its outcome.", _result, timedelta(seconds=2)),
        Step("He begins a mail; a draft needs no sender.", _draft),
        Step("The mail leaves for the outbox, now with a sender, and is sent.", _post, timedelta(seconds=2)),
        Step("Ines adds a deal without a lead; Close makes a nameless one.", _deal),
        Step("The nameless lead is merged into Rosa's.", _merge, timedelta(seconds=2)),
        Step("The deal is won.", _win, timedelta(seconds=2)),
    )
)

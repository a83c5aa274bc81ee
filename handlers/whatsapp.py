"""Keep WhatsApp conversations as Close has them: messages, edits, deletions, attachments, replies, the link back.

Two tables, `whatsapp_messages` and `whatsapp_attachments`, and what to ask of them: `conversation` (with one contact),
`thread` (a message, what it answers and what answers it), `files_of` (a message).

The techniques, for your own handlers:

* **`session`**: the rows and the delivery's "done" are committed together. When the process dies in between, neither is
  there, and the next attempt starts from nothing; the handler has no code for it.
* **Any order**: `ordered_by="object_id"` lets the events of one message run one after another, oldest first. That is a
  convenience: what comes late (a retry, a replay, what Close sent out of order) is held off by `_mirror.put` alone.
  `on_failure="skip"`, because the next event carries the whole message again and need not wait for a dead one.
* **Deletions** leave a tombstone without content, so that a late edit does not bring the message back.
* **Nothing that depends on two messages is stored.** A reply names the message that it answers by its Close id, and
  may come first. Storing the beginning of its thread would be wrong until that one comes, and a race then: of two
  transactions neither sees the other's row. `thread` walks the answers when it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, RowMapping, Table, delete, insert, select
from sqlalchemy.orm import Session

from webhooks import Event, on
from webhooks.sources.close.views import WhatsAppMessage

from ._mirror import Instant, Words, bury, mirrored, put

OBJECT_TYPE = "activity.whatsapp_message"

#: `webhooks db` compares the database with this; its migrations are in migrations/whatsapp/.
metadata = MetaData()

messages = mirrored(
    "whatsapp_messages",
    metadata,
    Column("lead_id", Words),
    Column("contact_id", Words),
    Column("user_id", Words),
    Column("direction", Words),  # incoming or outgoing
    Column("message_markdown", Words),
    Column("text", Words),
    Column("activity_at", Instant),
    Column("response_to_id", Words),  # the Close id of the message answered, which may not be here yet
    Column("external_whatsapp_message_id", Words),
    Column("integration_link", Words),  # back to where the message came from
    Index("ix_whatsapp_messages_contact_id", "contact_id", "activity_at"),
    Index("ix_whatsapp_messages_response_to_id", "response_to_id"),
)

attachments = Table(
    "whatsapp_attachments",
    metadata,
    Column("message_id", Words, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("url", Words),
    Column("filename", Words),
    Column("content_type", Words),
    Column("size", BigInteger),
    Column("thumbnail_url", Words),
)


@on(
    f"{OBJECT_TYPE}.*",
    source="close",
    name="whatsapp.mirror",
    ordered_by="object_id",
    on_failure="skip",
    effects="session",
)
def mirror(event: Event, session: Session) -> None:
    """Keep one event of a message: `created`, `updated` or `deleted`."""
    message = WhatsAppMessage.from_event(event)
    if message.id is None:
        return  # about no message: nothing to keep
    if event.action == "deleted":
        # what it answered holds the thread together, where others answer it
        bury(session, messages, message.id, event.occurred_at, response_to_id=message.response_to_id)
        _replace_attachments(session, message.id, ())
    elif event.data is not None and put(session, messages, message.id, event.occurred_at, _row(message)):
        _replace_attachments(session, message.id, message.attachments)


def _row(message: WhatsAppMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _COLUMNS}


def _replace_attachments(session: Session, message_id: str, files: Any) -> None:
    """Make the attachments of a message exactly `files`.

    The message's own row was written just before and is locked until the commit: no other run is here with this message.
    """
    session.execute(delete(attachments).where(attachments.c.message_id == message_id))
    rows = [
        {"message_id": message_id, "position": position, **{name: getattr(file, name) for name in _FILE_COLUMNS}}
        for position, file in enumerate(files)
    ]
    if rows:
        session.execute(insert(attachments), rows)


_COLUMNS = tuple(column.name for column in messages.columns if column.name not in ("id", "shown_at", "deleted_at"))
_FILE_COLUMNS = tuple(column.name for column in attachments.columns if column.name not in ("message_id", "position"))


# -- what to ask -----------------------------------------------------------------------------------------------


def conversation(session: Session, contact_id: str) -> list[RowMapping]:
    """The messages with one contact, oldest first, without the deleted ones."""
    found = select(messages).where(messages.c.contact_id == contact_id, messages.c.deleted_at.is_(None))
    return list(session.execute(found.order_by(messages.c.activity_at, messages.c.id)).mappings())


def thread(session: Session, message_id: str) -> list[RowMapping]:
    """The whole thread of a message, oldest first: up to its beginning, and every answer from there.

    A message that is not here yet, or was deleted, still holds its thread together where two others name it.
    """
    above = select(messages.c.id, messages.c.response_to_id).where(messages.c.id == message_id).cte(recursive=True)
    # UNION, not UNION ALL: messages that answer each other in a ring end the walk
    above = above.union(select(messages.c.id, messages.c.response_to_id).where(messages.c.id == above.c.response_to_id))
    links = session.execute(select(above.c.id, above.c.response_to_id)).all()
    known = {id for id, _ in links}
    # the first of the thread: one that answers nothing, or something that is not here
    beginning = next((answered or id for id, answered in links if answered not in known), message_id)

    below = select(messages.c.id).where((messages.c.id == beginning) | (messages.c.response_to_id == beginning))
    members = below.cte(recursive=True)
    members = members.union(select(messages.c.id).where(messages.c.response_to_id == members.c.id))
    found = select(messages).where(messages.c.id.in_(select(members.c.id)), messages.c.deleted_at.is_(None))
    return list(session.execute(found.order_by(messages.c.activity_at, messages.c.id)).mappings())


def files_of(session: Session, message_id: str) -> list[RowMapping]:
    """The attachments of a message, in their order."""
    found = select(attachments).where(attachments.c.message_id == message_id).order_by(attachments.c.position)
    return list(session.execute(found).mappings())


def mirrors(session: Session) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What of our tables must equal Close, once every event has come: {object type: {id: {field: our value}}}.

    An object that is missing here must be missing there. Instants are aware; Close writes them as text.
    """
    rows = session.execute(select(messages).where(messages.c.deleted_at.is_(None))).mappings()
    found = {row["id"]: {name: row[name] for name in _COLUMNS} | {"attachments": []} for row in rows}
    for file in session.execute(select(attachments).order_by(attachments.c.position)).mappings():
        found[file["message_id"]]["attachments"].append({name: file[name] for name in _FILE_COLUMNS})
    return {OBJECT_TYPE: found}

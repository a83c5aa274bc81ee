"""WhatsApp messages, as an integration syncs them; nothing is sent.

`direction` is incoming or outgoing. `response_to_id` is the Close id of the message answered. Attachments lie at
https://app.close.com/go/file/ and have 25 MB in all. `message_markdown` goes in, `message_html` and `text` come out.
Source: developer.close.com/api/resources/activities/whatsapp (read 2026-11-23); shapes as in
`payloads/whatsapp_message_*.json`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources.resource import (
    NO_SUCH_OBJECT,
    ActivityResource,
    Check,
    Field,
    Object,
    Objects,
    WrongValue,
    amount,
    choice,
    formatted,
    instant,
    list_of,
    name,
    optional,
    record,
    text,
    url,
    user,
)

FILES = "https://app.close.com/go/file/"
MAX_ATTACHMENT_BYTES = 25 * 1024 * 1024


def file_url(value: Any) -> str:
    """Check: the address of one of Close's files."""
    if not text(value).startswith(FILES):
        raise WrongValue(f"The url of an attachment starts with {FILES}.")
    return str(value)


_attachment: Check = record(
    {"url": file_url, "filename": name, "content_type": name}, {"size": amount, "thumbnail_url": file_url}
)


def attachments(value: Any) -> list[Object]:
    """Checked, with the size that Close would have found; what is not said is one byte."""
    files: list[Object] = list_of(_attachment)(value)
    for each in files:
        each["size"] = 1 if each["size"] is None else each["size"]
    if sum(each["size"] for each in files) > MAX_ATTACHMENT_BYTES:
        raise WrongValue("The attachments of a message have 25 MB in all at most.")
    return files


#: WhatsApp's marks and the HTML that Close makes of them.
_MARKS = (("*", "strong"), ("_", "em"), ("~", "s"), ("```", "code"))
_MARKED = {
    mark: re.compile(rf"(?<![^\W_]){re.escape(mark)}(?=\S)([^\n]{{1,1000}}?)(?<=\S){re.escape(mark)}(?![^\W_])")
    for mark, _ in _MARKS
}


def to_html(markdown: str) -> str:
    """WhatsApp's markdown as Close's HTML."""
    made = html.escape(markdown, quote=False)
    for mark, tag in _MARKS:
        made = _MARKED[mark].sub(rf"<{tag}>\1</{tag}>", made)
    return "".join(f"<p>{line}</p>" for line in made.split("\n")) if made else ""


def to_text(markdown: str) -> str:
    """WhatsApp's markdown without its marks."""
    for mark, _ in _MARKS:
        markdown = _MARKED[mark].sub(r"\1", markdown)
    return markdown


class WhatsAppMessages(ActivityResource):
    object_type: ClassVar[str] = "activity.whatsapp_message"
    path: ClassVar[str] = "activity/whatsapp_message"
    type_name: ClassVar[str | None] = "WhatsAppMessage"
    filters: ClassVar[tuple[str, ...]] = ("lead_id", "contact_id", "user_id", "external_whatsapp_message_id")
    constants: ClassVar[Mapping[str, Any]] = {**ActivityResource.constants, "source": "api"}
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "activity_at": Field(optional(instant)),
        "direction": Field(choice("incoming", "outgoing"), is_required=True),
        "external_whatsapp_message_id": Field(name, is_required=True),
        "message_markdown": Field(text, ""),
        "attachments": Field(attachments, list),
        "integration_link": Field(optional(url)),
        "response_to_id": Field(optional(name)),
        "local_phone": Field(optional(text)),
        "remote_phone": Field(optional(text)),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["message_html"] = to_html(made["message_markdown"])
        made["text"] = to_text(made["message_markdown"])
        for side in ("local", "remote"):
            made[f"{side}_phone_formatted"] = formatted(made[f"{side}_phone"])

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        self._judge_answer(objects, made["response_to_id"], made["id"])
        super().before_create(objects, made, actor, params)
        made["integration_name"] = actor.integration

    def after_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What else happens; see `Resource`."""
        if params.get("send_to_inbox") in (True, "true", "1"):
            objects.inbox.append(made["id"])

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; see `Resource`."""
        if "response_to_id" in values and values["response_to_id"] != before["response_to_id"]:
            self._judge_answer(objects, values["response_to_id"], before["id"])

    def before_delete(self, objects: Objects, gone: Object, actor: Caller) -> None:
        """What goes first; see `Resource`."""
        if gone["id"] in objects.inbox:
            objects.inbox.remove(gone["id"])

    def _judge_answer(self, objects: Objects, id: str | None, own_id: str) -> None:
        if id is not None and (id == own_id or objects.find("activity.whatsapp_message", id) is None):
            raise Invalid.field("response_to_id", f"{NO_SUCH_OBJECT} It is the id in Close of a WhatsApp message.")

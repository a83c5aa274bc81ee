"""How values are written and read: JSON and paths into it, quantities, text that is safe to show, what a database's error says.

Promises: bytes and text from outside never make anything here fail in another way than it says, and what comes out can
be stored and printed. Pure functions, no clock, no connection;
the only thing asked of the system is its time zone.

`json` reads and writes bodies, `paths` finds and compares what is in them, `redaction` hides some of it, `lists` cuts lists into their elements,
`quantities` reads what people write, `queues` says what a queue is called and which handlers are in it,
`sqlstates` reads errors of databases, `frames` says where code stood, `screen` writes a line for who develops, `text` makes any error, text, count, duration and instant fit for a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.formats.frames import Frame as Frame
    from webhooks.formats.frames import frames_of as frames_of
    from webhooks.formats.frames import own_frames as own_frames
    from webhooks.formats.paths import MISSING as MISSING
    from webhooks.formats.paths import OPERATORS as OPERATORS
    from webhooks.formats.paths import ROOTS as ROOTS
    from webhooks.formats.paths import EventPath as EventPath
    from webhooks.formats.paths import JsonPath as JsonPath
    from webhooks.formats.paths import contains as contains
    from webhooks.formats.paths import equal as equal
    from webhooks.formats.paths import exists as exists
    from webhooks.formats.paths import look_up as look_up
    from webhooks.formats.paths import nearest_root as nearest_root
    from webhooks.formats.paths import path_of as path_of
    from webhooks.formats.quantities import Unreadable as Unreadable
    from webhooks.formats.quantities import as_instant as as_instant
    from webhooks.formats.quantities import is_by_the_wall as is_by_the_wall
    from webhooks.formats.quantities import per_second as per_second
    from webhooks.formats.quantities import read_duration as read_duration
    from webhooks.formats.quantities import read_instant as read_instant
    from webhooks.formats.quantities import read_iso as read_iso
    from webhooks.formats.quantities import read_rate as read_rate
    from webhooks.formats.quantities import read_size as read_size
    from webhooks.formats.quantities import show_duration as show_duration
    from webhooks.formats.queues import DEFAULT_QUEUE as DEFAULT_QUEUE
    from webhooks.formats.queues import choose_queues as choose_queues
    from webhooks.formats.queues import queue_of as queue_of
    from webhooks.formats.queues import read_handler_pattern as read_handler_pattern
    from webhooks.formats.queues import read_queue as read_queue
    from webhooks.formats.screen import screen_line as screen_line
    from webhooks.formats.screen import wants_colour as wants_colour
    from webhooks.formats.text import ALMOST_THE_SAME as ALMOST_THE_SAME
    from webhooks.formats.text import counted as counted
    from webhooks.formats.text import did_you_mean as did_you_mean
    from webhooks.formats.text import error_summary as error_summary
    from webhooks.formats.text import error_text as error_text
    from webhooks.formats.text import exception_text as exception_text
    from webhooks.formats.text import iso_text as iso_text
    from webhooks.formats.text import nearest as nearest
    from webhooks.formats.text import one_line as one_line
    from webhooks.formats.text import printable as printable
    from webhooks.formats.text import shown_instant as shown_instant
    from webhooks.formats.text import span as span
    from webhooks.formats.text import text_of as text_of
    from webhooks.formats.text import why_no_key as why_no_key
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "frames": ["Frame", "frames_of", "own_frames"],
            "paths": [
                "EventPath",
                "JsonPath",
                "MISSING",
                "OPERATORS",
                "ROOTS",
                "contains",
                "equal",
                "exists",
                "look_up",
                "nearest_root",
                "path_of",
            ],
            "quantities": [
                "Unreadable",
                "as_instant",
                "is_by_the_wall",
                "per_second",
                "read_duration",
                "read_instant",
                "read_iso",
                "read_rate",
                "read_size",
                "show_duration",
            ],
            "queues": ["DEFAULT_QUEUE", "choose_queues", "queue_of", "read_handler_pattern", "read_queue"],
            "screen": ["screen_line", "wants_colour"],
            "text": [
                "ALMOST_THE_SAME",
                "counted",
                "did_you_mean",
                "error_summary",
                "error_text",
                "exception_text",
                "iso_text",
                "nearest",
                "one_line",
                "printable",
                "shown_instant",
                "span",
                "text_of",
                "why_no_key",
            ],
        },
    )

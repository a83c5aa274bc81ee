"""Follow what a local Close posts to us, on one screen: what came, its receipt, who handled it and how fast.

`webhooks dev --demo` plays the sandbox's story this way (`play`). The local Close runs in this process, on a random port of
127.0.0.1, and signs with the demo secret; what it posts goes through the same server, database and worker as anything
else. What is shown of an event is its type, its receipt and its deliveries, never its payload.

Not here: what happens in the story (`webhooks.sandbox.story`), the processes (`process_group`).
"""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.cli import output
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.model import DeliveryState
from webhooks.operations.trigger import PostAnswer

if TYPE_CHECKING:
    from webhooks.sandbox import World
    from webhooks.sandbox.server import LocalClose
    from webhooks.store.listings import DeliverySummary

#: How long the local Close waits for more changes of an object before it posts them, and mail before it leaves.
SOON = timedelta(milliseconds=200)
#: How long a step waits for its events to be handled before the story continues.
STEP_LIMIT = timedelta(seconds=20)
#: How often we look whether something came or was handled.
LOOK_EVERY = timedelta(milliseconds=20)
#: Columns of the screen, of what stands before a line, and where the handlers begin.
WIDTH, MARGIN, HANDLERS_AT = 80, 7, 52

#: Posts one webhook, as `webhooks.operations.trigger.post`.
Send = Callable[[str, bytes, Mapping[str, str]], PostAnswer]
#: The deliveries of an event by its id.
Deliveries = Callable[[int], Sequence["DeliverySummary"]]
#: Supervises the processes; the exit code once there is a reason to end.
Supervise = Callable[[], int | None]
#: Shows one line.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PostedEvent:
    """One post and how it was answered. receipt: `stored` and so on, or what went wrong. event_id: None if refused."""

    type: str
    receipt: str
    event_id: int | None


class Posts:
    """Posts for the local Close, and remembers what was answered; called by its thread, read by ours."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.arrivals: queue.SimpleQueue[PostedEvent] = queue.SimpleQueue()
        #: (event's id, its date_updated) of what was taken
        self.taken: set[tuple[str, str]] = set()

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post once and return the status. Raises when there is no answer."""
        event = jsonio.load(body)["event"]
        type = f"{event['object_type']}.{event['action']}"
        try:
            answer = self._send(url, body, headers)
        except Exception:
            self.arrivals.put(PostedEvent(type, "no answer", None))
            raise
        self.arrivals.put(_read(type, answer))
        if 200 <= answer.status < 300:
            self.taken.add((event["id"], event["date_updated"]))
        return answer.status


def _read(type: str, answer: PostAnswer) -> PostedEvent:
    body = answer.body if isinstance(answer.body, dict) else {}
    if not 200 <= answer.status < 300:
        return PostedEvent(type, f"refused {answer.status}", None)
    event_id = body.get("event_id")
    is_id = isinstance(event_id, str | int) and str(event_id).isascii() and str(event_id).isdigit()
    return PostedEvent(type, one_line(str(body.get("status", "taken")), 20), int(str(event_id)) if is_id else None)


# -- the screen ------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was seen so far. slowest: from stored to handled."""

    events: int = 0
    handled: int = 0
    unrouted: int = 0
    failed: int = 0
    slowest: timedelta = timedelta(0)
    last_event: int | None = None

    def add(self, arrival: PostedEvent, deliveries: Sequence[DeliverySummary]) -> None:
        """Count one arrival and what became of it; a refused one is not an event."""
        if arrival.event_id is None:
            return
        self.events += 1
        self.last_event = arrival.event_id
        if not deliveries:
            self.unrouted += 1
        elif all(_has_ended_well(delivery) for delivery in deliveries):
            self.handled += 1
        else:
            self.failed += 1
        self.slowest = max([self.slowest, *(_took(delivery) for delivery in deliveries if delivery.finished_at)])

    def __str__(self) -> str:
        parts = []
        if self.handled:
            parts.append("every one handled" if self.handled == self.events else f"{self.handled} handled")
        if self.unrouted:
            parts.append(f"{self.unrouted} that no handler asks for")
        if self.failed:
            parts.append(f"{self.failed} not handled: see webhooks deliveries list")
        return f"{output.counted(self.events, 'event')}, {', '.join(parts) or 'none handled'}"


def describe(arrival: PostedEvent, deliveries: Sequence[DeliverySummary]) -> list[str]:
    """The lines of one event, within `WIDTH` columns."""
    line = " " * MARGIN + output.coloured(arrival.receipt) + " " * max(1, 10 - len(arrival.receipt))
    at = MARGIN + max(10, len(arrival.receipt) + 1)
    line += arrival.type
    at += len(arrival.type)
    lines = []
    for text, style in _handlers(arrival, deliveries):
        gap = max(2, HANDLERS_AT - at)
        if at + gap + len(text) > WIDTH:
            lines.append(line)
            line, at, gap = "", 0, max(MARGIN, min(HANDLERS_AT, WIDTH - len(text)))
        line += " " * gap + output.colour(text, **style)
        at += gap + len(text)
    return [*lines, line]


def _handlers(arrival: PostedEvent, deliveries: Sequence[DeliverySummary]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Who got it and what became of it: texts and their styles."""
    if not deliveries and arrival.event_id is not None:
        yield "no handler asks for it", {"dim": True}
    for delivery in deliveries:
        name = one_line(delivery.handler, 40)
        if delivery.state is DeliveryState.SUCCEEDED:
            yield f"{name} {output.span(_took(delivery))}", {}
        elif delivery.state is DeliveryState.CANCELLED:
            yield f"{name} {'not for it' if _is_not_for_it(delivery) else 'cancelled'}", {"dim": True}
        else:
            text = f"{name} {delivery.state.label}" + (f": {delivery.reason}" if delivery.reason else "")
            yield one_line(text, WIDTH - MARGIN - len("… (cut)")), {"fg": "red"}  # it adds that where it cuts


def _took(delivery: DeliverySummary) -> timedelta:
    return (delivery.finished_at or delivery.created_at) - delivery.created_at


def _is_not_for_it(delivery: DeliverySummary) -> bool:
    return delivery.cause is not None and delivery.cause.is_not_for_it


def _has_ended_well(delivery: DeliverySummary) -> bool:
    return delivery.state is DeliveryState.SUCCEEDED or _is_not_for_it(delivery)


# -- following -------------------------------------------------------------------------------------------------


@dataclass
class Follower:
    """Tells each arrival in its order, once its deliveries have ended.

    monotonic, sleep: handed in by tests.
    """

    posts: Posts
    deliveries: Deliveries
    tell: Tell
    supervise: Supervise
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tally: Tally = field(default_factory=Tally)
    _waiting: list[PostedEvent] = field(default_factory=list)

    def follow(self, is_over: Callable[[], bool], limit: timedelta | None = None) -> int | None:
        """Until `is_over` and all that came is told, or for `limit`; the exit code should there be a reason to end.

        What is not handled within the limit is told as it stands.
        """
        deadline = None if limit is None else self.monotonic() + limit.total_seconds()
        while True:
            over = is_over()  # asked first: what came before it must be told
            self._take()
            late = deadline is not None and self.monotonic() >= deadline
            while self._waiting and self._tell_first(late):
                pass
            if (code := self.supervise()) is not None:
                return code
            if (over and not self._waiting) or late:
                return None
            self.sleep(LOOK_EVERY.total_seconds())

    def pause(self, duration: timedelta) -> int | None:
        """Follow for so long; the exit code should there be a reason to end."""
        until = self.monotonic() + duration.total_seconds()
        return self.follow(lambda: self.monotonic() >= until)

    def _take(self) -> None:
        while not self.posts.arrivals.empty():
            self._waiting.append(self.posts.arrivals.get())

    def _tell_first(self, late: bool) -> bool:
        """Tell the first that waits, if its deliveries have ended or `late`; whether it was told."""
        arrival = self._waiting[0]
        found = self.deliveries(arrival.event_id) if arrival.event_id is not None else []
        if not late and any(delivery.state <= DeliveryState.RUNNING for delivery in found):
            return False
        del self._waiting[0]
        self.tally.add(arrival, found)
        for line in describe(arrival, found):
            self.tell(line)
        return True


def is_quiet(world: World, posts: Posts) -> bool:
    """Whether all that happened in `world` was posted and taken."""
    with world.lock:
        shown = [entry.as_json(is_stripped=True) for entry in world.log]
        nothing_waits = world.next_due() is None
    return nothing_waits and all((each["id"], each["date_updated"]) in posts.taken for each in shown)


def make_world(url: str, key: str) -> tuple[World, str]:
    """A local Close that has one subscription, to everything, signed with `key`, and its id; others at each start."""
    from webhooks.sandbox import Rules, World
    from webhooks.sandbox.server import subscribe_all

    # a seed of its own: with the ids of the last time, events would be duplicates in the same database
    rules = Rules(consolidation=SOON, delivery_delay=SOON, sending=SOON, retry_base=timedelta(seconds=1))
    world = World(seed=secrets.randbits(64), rules=rules)
    return world, subscribe_all(world, url, signature_key=key).id


def play(close: LocalClose, follower: Follower, *, pace: float) -> int | None:
    """Play the story at a running local Close; the exit code should there be a reason to end before its end.

    pace: what the story's pauses are multiplied with; 0 waits only until everything is handled.
    """
    from webhooks.sandbox.story import STORY

    world, tell = close.world, follower.tell
    playing = STORY.play(world)
    count = len(STORY.steps)
    for number, step in enumerate(STORY.steps, 1):
        if number > 1 and (code := follower.pause(step.pause * pace)) is not None:
            return code
        before = len(world.log)
        next(playing)
        tell("")
        tell(f"{number:>2}/{count:<3} {output.colour(step.sentence, bold=True)}")
        if len(world.log) == before:
            tell(" " * MARGIN + output.colour("Close sends no event for this", dim=True))
        if (code := follower.follow(lambda: is_quiet(world, follower.posts), STEP_LIMIT)) is not None:
            return code
    tell("")
    tell(f"the end    {follower.tally}")
    tell(f"           the slowest {output.span(follower.tally.slowest)} after it was stored")
    return None


__all__ = ["Follower", "PostedEvent", "Posts", "Tally", "describe", "is_quiet", "make_world", "play"]

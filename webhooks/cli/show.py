"""What `webhooks dev --demo` shows: one signed event being handled, then a local Close's story, then what to try next.

The event is posted as its sender would post it, and what becomes of it is read from the database, so that everything
shown has taken the way that any other event takes.

Not here: starting and ending the processes (`process_group`, `dev`), following the story (`follow`).
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from webhooks.cli import demo, output
from webhooks.formats import one_line
from webhooks.version import install

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.cli.dev import Development
    from webhooks.cli.process_group import ProcessGroup
    from webhooks.store.listings import DeliverySummary

#: How long a demo event may take to be handled.
DEMO_LIMIT = timedelta(seconds=30)
#: The story's pauses on a terminal are multiplied with this: it is told in a quarter of a minute.
STORY_PACE = 0.7


def run_demo(plan: Development, group: ProcessGroup, tell: Callable[[str], None], *, once: bool) -> int:
    """Show one event being handled, then, unless `once`, the local Close's story; the exit code."""
    handled = show_event(plan, tell)
    # handlers of a real installation must not act on people who do not exist
    has_story = handled is not None and plan.secret is not None and not once
    if handled is not None and not has_story:
        _name_next(tell, handled, plan)
    if once:
        return 0 if handled is not None else 1
    say_how_to_stop()
    return tell_story(plan, group, tell) if has_story else group.wait()


def say_how_to_stop() -> None:
    """On a terminal, how to end it."""
    if sys.stderr.isatty():
        output.print_note("Ctrl-C stops, and says what is left.")


def show_event(plan: Development, tell: Callable[[str], None]) -> int | None:
    """Send the demo event and tell what becomes of it; its id, or None when it was not handled in time."""
    from webhooks.operations import trigger

    source = plan.instance.sources[demo.SOURCE]
    body, headers, _ = trigger.choose(demo.EVENT_TYPE, source)
    body = trigger.freshen(body, source.settings.scheme, plan.instance.clock())
    url = f"{plan.url}{plan.instance.settings.url_prefix}/{demo.SOURCE}"
    signed_with = f"the demo secret ({plan.secret.name})" if plan.secret is not None else "your source's first secret"
    tell(f"serving    {plan.url}")
    began = time.monotonic()
    answer = trigger.send(source, body, headers, url, plan.instance.clock())
    took = timedelta(seconds=time.monotonic() - began)
    tell(f"received   {demo.EVENT_TYPE}, {len(body):,} bytes")
    tell(f"signed     with {signed_with}")
    event_id = answer.body.get("event_id") if isinstance(answer.body, dict) else None
    if answer.status != 200 or event_id is None:
        tell(f"refused    {answer.status} {one_line(answer.text, 300)}")
        return None
    tell(f"{answer.body['status']:<10} as event {event_id}; answered {answer.status} in {output.span(took)}")
    ended = _await_end(plan.instance, int(event_id), tell)
    good = [delivery for delivery in ended if delivery.state.label == "succeeded"]
    for delivery in ended:
        at = output.span(delivery.finished_at - delivery.created_at) if delivery.finished_at else ""
        if delivery in good:
            tell(f"handled    by {delivery.handler} {at} after it was stored")
        else:
            reason = delivery.reason or f"attempt {delivery.attempts} has not ended"
            tell(f"{delivery.state.label:<10} for {delivery.handler}: {one_line(reason, 300)}")
    if not good:
        tell(f"not handled within {output.span(DEMO_LIMIT)}; see: {command_name()} events show {event_id}")
        return None
    return int(event_id)


def tell_story(plan: Development, group: ProcessGroup, tell: Callable[[str], None]) -> int:
    """Run a local Close, show its story and whatever happens at it afterwards; the exit code of a reason to end."""
    from webhooks.cli import follow
    from webhooks.cli.sandbox import key_of
    from webhooks.operations import trigger
    from webhooks.sandbox import serve
    from webhooks.sandbox.accounts import ADMIN_KEY

    url = f"{plan.url}{plan.instance.settings.url_prefix}/{demo.SOURCE}"
    key = key_of(plan.instance.sources[demo.SOURCE])
    assert key is not None  # the demo's
    world, subscription = follow.make_world(url, key)
    demo.label_key(demo.secret_path(plan.directory), subscription, key)
    posts = follow.Posts(trigger.post)
    follower = follow.Follower(posts, plan.instance.store.listings.of_event, tell, group.supervise)
    with serve(world, post=posts) as close:
        demo.leave_close_note(plan.directory, close.url, ADMIN_KEY, url)
        tell("")
        tell(f"close      a Close of your own at {close.url} tells a story;")
        tell("           its webhooks are signed, and take the same way as that event:")
        # a terminal is watched, a log is not
        code = follow.play(close, follower, pace=STORY_PACE if output.is_terminal() else 0)
        if code is None:
            _name_next(tell, follower.tally.last_event, plan)
            tell("")
            tell("or ask the local Close, while it runs:")
            if not has_http_client():
                tell(f"  first, since these two ask over HTTP: {install('http')}")
            tell(f"  {command_name()} subscriptions list")
            tell(f"  {command_name()} catch-up {demo.SOURCE} --since 1h")
            tell("")
            tell("or change something at it, and see here what comes of it:")
            tell(f"  curl -u {ADMIN_KEY}: {close.url}contact/ \\")
            tell("""       -d '{"name": "Ada Lovelace"}'""")
            code = follower.follow(lambda: False)
    return 0 if code is None else code


def _name_next(tell: Callable[[str], None], event_id: int | None, plan: Development) -> None:
    """The next commands to try. event_id: one to look at."""
    name = command_name()
    tell("")
    if (link := demo.console_link(plan.directory)) is not None:
        tell("console    see it all in a browser, and press Send there:")
        tell(f"           {link}")
        tell("")
    tell("next, in another terminal:")
    if event_id is not None:
        tell(f"  {name} events show {event_id}")
    tell(f"  {name} trigger activity.whatsapp_message.updated")
    tell(f"  {name} replay --type 'activity.whatsapp_message.**' --dry-run")
    if plan.secret is None:
        tell(f"  {name} sandbox    (a local Close; --demo plays its story here only with the demo source)")


def has_http_client() -> bool:
    """Whether what the commands need that ask a sender is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("httpx2", "stamina"))


def command_name() -> str:
    """How to type this program here: as it is found on the PATH, else by where it is."""
    if shutil.which("webhooks"):
        return "webhooks"
    script = Path(sys.executable).with_name("webhooks")
    if not script.exists():
        return f"{sys.executable} -m webhooks"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def _await_end(instance: Webhooks, event_id: int, tell: Callable[[str], None]) -> Sequence[DeliverySummary]:
    """The deliveries of an event, once all have ended or time is up; a failed attempt is told when it is seen."""
    deadline = time.monotonic() + DEMO_LIMIT.total_seconds()
    told: dict[int, int] = {}
    while True:
        found = instance.store.listings.of_event(event_id)
        for delivery in found:
            if delivery.state.label == "pending" and delivery.failures > told.get(delivery.id, 0):
                told[delivery.id] = delivery.failures
                again = output.span(max(delivery.due_at - instance.clock(), timedelta(0)))
                tell(f"failed     for {delivery.handler}, again in {again}: {one_line(delivery.reason or '', 300)}")
        if found and all(delivery.state >= 2 for delivery in found):
            return found
        if time.monotonic() >= deadline:
            return found
        time.sleep(0.01)


__all__ = ["run_demo", "say_how_to_stop"]

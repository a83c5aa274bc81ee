"""`webhooks handlers`: what is registered here, what the database knows of it, pause and resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import json_option, operator_name, or_explain, webhooks
from webhooks.errors import NotFound
from webhooks.selection import did_you_mean

if TYPE_CHECKING:
    from webhooks.app import Webhooks

COLUMNS = ("NAME", "PATTERNS", "SOURCE", "STATE", "OPTIONS", "LAST STARTED")


@dataclass(frozen=True, slots=True)
class HandlerView:
    """One handler. is_registered: this directory has it. state: running, paused, breaker open, never started, unknown."""

    name: str
    patterns: tuple[str, ...]
    source: str | None
    is_registered: bool
    state: str
    paused_by: str | None
    options: tuple[str, ...]
    seen_at: Any


def view(instance: Webhooks) -> list[HandlerView]:
    """The handlers registered here and those that the database knows, where it can be asked, by name."""
    answer = or_explain(instance.database, instance.store.handlers.states)
    known = answer or {}
    registered = {handler.name: handler for handler in instance.registry.handlers()}
    views = []
    for name in sorted({*known, *registered}):
        handler, row = registered.get(name), known.get(name)
        if row is not None and row.paused:
            state = "paused"
        elif row is not None and row.breaker:
            state = f"breaker {row.breaker.name.lower().replace('_', '-')}"
        elif handler is None:
            state = "not registered here"
        else:
            state = "unknown" if answer is None else "running" if row is not None else "never started"
        views.append(
            HandlerView(
                name=name,
                patterns=tuple(str(p) for p in handler.patterns)
                if handler is not None
                else (row.patterns if row else ()),
                source=handler.source if handler is not None else (row.source if row else None),
                is_registered=handler is not None,
                state=state,
                paused_by=row.paused_by if row is not None else None,
                options=_options(handler) if handler is not None else (),
                seen_at=row.seen_at if row is not None else None,
            )
        )
    return views


def _options(handler: Any) -> tuple[str, ...]:
    """What was asked for beyond the defaults, in words."""
    words = ["session"] if handler.wants_session else []
    if handler.is_async:
        words.append("async")
    if handler.ordered_by is not None:
        words.append(f"ordered by {handler.ordered_by if isinstance(handler.ordered_by, str) else 'a function'}")
    if handler.where is not None:
        words.append(f"where {handler.where}")
    if handler.concurrency is not None:
        words.append(f"concurrency {handler.concurrency}")
    if handler.rate is not None:
        words.append(f"rate {handler.rate[0]} per {output.span(handler.rate[1])}")
    if handler.timeout is not None:
        words.append(f"timeout {output.span(handler.timeout)}")
    if handler.ignore_own:
        words.append("ignore own")
    if handler.rehearsable:
        words.append("rehearsable")
    if handler.isolation != "thread":
        words.append(handler.isolation)
    return tuple(words)


@click.group(cls=LazyGroup, invoke_without_command=True, epilog="Example: webhooks handlers pause whatsapp.mirror")
@json_option
@click.pass_context
def handlers(ctx: click.Context, as_json: bool) -> None:
    """Show handlers; pause and resume them."""
    if ctx.invoked_subcommand is not None:
        return
    views = view(webhooks())
    if as_json:
        output.emit_json(
            {
                "handlers": [
                    {
                        "name": v.name,
                        "patterns": list(v.patterns),
                        "source": v.source,
                        "is_registered": v.is_registered,
                        "state": v.state,
                        "paused_by": v.paused_by,
                        "options": list(v.options),
                        "seen_at": output.iso(v.seen_at),
                    }
                    for v in views
                ]
            }
        )
        return
    rows = [
        (
            v.name, ", ".join(v.patterns), v.source or "any", v.state + (f" by {v.paused_by}" if v.paused_by else ""),
            ", ".join(v.options), output.when(v.seen_at),
        )
        for v in views
    ]  # fmt: skip
    output.emit_table(COLUMNS, rows, empty="no handlers; write one into handlers/ (webhooks init shows how)")


@handlers.command("pause", epilog="Example: webhooks handlers pause whatsapp.mirror")
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:
    """Stop all workers from running a handler; its deliveries wait. Felt everywhere within two seconds."""
    store = _known(name).store
    state = store.handlers.states([name]).get(name)
    if state is not None and state.paused:
        _tell(name, f"{name} is paused already, by {state.paused_by}", as_json, is_paused=True, changed=False)
        return
    store.handlers.pause(name, operator_name())
    text = f"{name} is paused; its deliveries wait until: webhooks handlers resume {name}"
    _tell(name, text, as_json, is_paused=True, changed=True)


@handlers.command("resume", epilog="Example: webhooks handlers resume whatsapp.mirror")
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Let workers run a handler again, and close its circuit breaker."""
    store = _known(name).store
    state = store.handlers.states([name]).get(name)
    if state is not None and not state.paused and not state.breaker:
        _tell(name, f"{name} is not paused", as_json, is_paused=False, changed=False)
        return
    store.handlers.resume(name)
    _tell(name, f"{name} runs again", as_json, is_paused=False, changed=True)


def _tell(name: str, text: str, as_json: bool, *, is_paused: bool, changed: bool) -> None:
    if as_json:
        output.emit_json({"handler": name, "is_paused": is_paused, "changed": changed})
    else:
        output.print_note(text)


def _known(name: str) -> Webhooks:
    """The instance, once its database knows the handler. Raises `NotFound`."""
    instance = webhooks()
    known = list(instance.store.handlers.states())
    if name in known:
        return instance
    registered = [handler.name for handler in instance.registry.handlers()]
    if name in registered:
        from webhooks.delivery import handler_rows

        instance.store.handlers.register([row for row in handler_rows(instance.registry) if row.name == name])
        return instance
    everything = sorted({*known, *registered})
    raise NotFound(
        f"no handler named {name!r}{did_you_mean(name, everything)}; known: {', '.join(everything) or 'none'}"
    )

"""The addresses of the local Close: from a request, already read, to an answer as plain data.

`answer` knows the API's addresses below /api/v1/, `control` those below /sandbox/, which move the time, change the
rules, order faults and show the state. Neither knows Flask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from webhooks.sandbox.accounts import USERS, Caller, User, authenticate
from webhooks.sandbox.objects import RESOURCES
from webhooks.sandbox.refusals import ApiRefusal, Fault, Invalid, Missing, WrongMethod
from webhooks.sandbox.resources import leads, opportunities
from webhooks.sandbox.resources.resource import Resource, stamp
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.story import STORY
from webhooks.sandbox.subscriptions import Post
from webhooks.sandbox.world import World

ROOT = "/api/v1/"


@dataclass(frozen=True)
class Request:
    """A request of the API. body: of a JSON object, {} without one. path: below the root."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    authorization: str | None = None


@dataclass(frozen=True)
class ApiAnswer:
    """text: instead of JSON, for a fault that was asked for."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None


def answer(world: World, request: Request) -> ApiAnswer:
    """What the API says; never raises for what a client sent."""
    headers: dict[str, str] = {}
    try:
        with world.lock:
            _raise_fault(world, request)
            actor = authenticate(request.authorization)
            segments = [each for each in request.path.split("/") if each]
            allowance = world.limits.take(actor.key, "/".join(segments[:2]), world.now(), world.rules)
            if allowance is not None:
                headers["RateLimit"] = allowance.header
            actor = world.request(actor, request.method, f"{ROOT}{request.path}")
            status, body = _dispatch(world, request, segments, actor)
        return ApiAnswer(status, body, headers)
    except Fault as fault:
        return ApiAnswer(fault.status, {"error": fault.message}, fault.headers, fault.text)
    except ApiRefusal as refused:
        return ApiAnswer(refused.status, refused.body, {**headers, **refused.headers})


def _raise_fault(world: World, request: Request) -> None:
    for order in list(world.faults):
        if request.path.startswith(order.path):
            order.times -= 1
            if order.times <= 0:
                world.faults.remove(order)
            raise Fault(order.status, order.text, order.headers)


def _dispatch(world: World, request: Request, segments: list[str], actor: Caller) -> tuple[int, Any]:
    special = {
        ("event",): _events,
        ("webhook",): _webhooks,
        ("me",): _me,
        ("user",): _users,
        ("status", "lead"): _lead_statuses,
        ("status", "opportunity"): _opportunity_statuses,
        ("lead", "merge"): _merge,
    }
    for names, handle in special.items():
        if tuple(segments[: len(names)]) == names:
            rest = segments[len(names) :]
            if len(rest) > 1:
                break
            return handle(world, request, rest[0] if rest else None, actor)
    for resource in sorted(RESOURCES, key=lambda each: -len(each.path)):
        names = tuple(resource.path.split("/"))
        rest = segments[len(names) :]
        if tuple(segments[: len(names)]) == names and len(rest) <= 1:
            return _objects(world, request, resource, rest[0] if rest else None, actor)
    raise Missing(f"no address {ROOT}{request.path[:200]!r}; docs/sandbox.md lists what there is")


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise WrongMethod(f"{request.method} is not possible here, only {', '.join(methods)}")


def _objects(world: World, request: Request, resource: Resource, id: str | None, actor: Caller) -> tuple[int, Any]:
    kind = resource.object_type
    if id is None:
        _only(request, "GET", *(["POST"] if resource.may_post else []))
        if request.method == "POST":
            return 200, world.create(kind, request.body, by=actor, params=request.params)
        return 200, world.search(kind, request.params)
    _only(request, "GET", "PUT", "DELETE")
    if request.method == "PUT":
        return 200, world.update(kind, id, request.body, by=actor)
    if request.method == "DELETE":
        world.delete(kind, id, by=actor)
        return 200, {}
    return 200, world.get(kind, id)


def _events(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "GET")
    if id is None:
        return 200, world.events(request.params, by=actor)
    return 200, world.log.get(id, actor, world.now(), world.rules)


def _webhooks(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    subscriptions, now = world.subscriptions, world.now()
    if id is None:
        _only(request, "GET", "POST")
        if request.method == "POST":
            made = subscriptions.create(request.body, actor, stamp(world.tick()), world.rules)
            return 201, made.as_json(world.now(), with_key=True)
        return 200, {"data": [each.as_json(now, with_key=False) for each in subscriptions.visible_to(actor)]}
    _only(request, "GET", "PUT", "DELETE")
    if request.method == "DELETE":
        subscriptions.delete(id, actor)
        return 200, {}
    if request.method == "PUT":
        found = subscriptions.update(id, request.body, actor, stamp(world.tick()), world.rules)
    else:
        found = subscriptions.get(id, actor)
    return 200, found.as_json(world.now(), with_key=world.rules.show_keys)


def _user_json(user: User) -> dict[str, Any]:
    first, _, last = user.name.partition(" ")
    return {"id": user.id, "email": user.email, "first_name": first, "last_name": last}


def _me(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "GET")
    assert actor.user is not None  # every key belongs to a person
    return 200, _user_json(actor.user)


def _users(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "GET")
    if id is None:
        return 200, {"data": [_user_json(user) for user in USERS.values()], "has_more": False}
    if id not in USERS:
        raise Missing(f"no user {id!r}")
    return 200, _user_json(USERS[id])


def _lead_statuses(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "GET")
    return 200, {"data": [{"id": each, "label": label} for each, label in leads.STATUSES.items()], "has_more": False}


def _opportunity_statuses(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "GET")
    statuses = opportunities.STATUSES.items()
    data = [{"id": each, "label": label, "type": kind} for each, (label, kind) in statuses]
    return 200, {"data": data, "has_more": False}


def _merge(world: World, request: Request, id: str | None, actor: Caller) -> tuple[int, Any]:
    _only(request, "POST")
    leads.merge(world.objects, request.body, actor)
    return 200, {}


# -- the handles of a test ----------------------------------------------------------------------------------


def control(world: World, request: Request, post: Post) -> ApiAnswer:
    """What /sandbox/… says. These need no key: they can be reached from this machine only."""
    handles: dict[tuple[str, str], Callable[[World, Mapping[str, Any], Post], Any]] = {
        ("GET", "state"): lambda world, body, post: shown_state(world),
        ("GET", "rules"): lambda world, body, post: shown_rules(world.rules),
        ("POST", "rules"): _set_rules,
        ("POST", "advance"): _advance,
        ("POST", "pause"): _pause,
        ("POST", "faults"): _order_fault,
        ("POST", "deliver"): _deliver,
        ("POST", "story"): _tell,
    }
    name = request.path.strip("/")
    try:
        if (request.method, name) not in handles:
            if any(name == known for _, known in handles):
                raise WrongMethod(f"{request.method} is not possible here")
            raise Missing(f"no address /sandbox/{name[:200]}; there are {', '.join(sorted({k for _, k in handles}))}")
        return ApiAnswer(200, handles[request.method, name](world, request.body, post))
    except ApiRefusal as refused:
        return ApiAnswer(refused.status, refused.body, refused.headers)


def shown_rules(rules: Rules) -> dict[str, Any]:
    """Durations in seconds."""
    values = {each.name: getattr(rules, each.name) for each in fields(rules)}
    return {name: at.total_seconds() if isinstance(at, timedelta) else at for name, at in values.items()}


def shown_state(world: World) -> dict[str, Any]:
    """The whole state as JSON, for tests and `webhooks sandbox`."""
    with world.lock:
        due = world.next_due()
        return {
            "now": stamp(world.now()),
            "objects": world.state(),
            "events": len(world.log),
            "waiting": world.waiting(),
            "next_due": stamp(due) if due else None,
            "inbox": list(world.inbox),
            "subscriptions": [each.as_json(world.now(), with_key=False) for each in world.subscriptions],
        }


def _set_rules(world: World, body: Mapping[str, Any], post: Post) -> Any:
    with world.lock:
        world.rules = world.rules.changed(body)
        return shown_rules(world.rules)


def _advance(world: World, body: Mapping[str, Any], post: Post) -> Any:
    seconds = body.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 10**8:
        raise Invalid.field("seconds", "is a number from 0 to 10**8")
    try:
        world.advance(timedelta(seconds=seconds))
        return {"now": stamp(world.now())}
    except OverflowError:
        raise Invalid.field("seconds", "the calendar ends before that") from None


def _pause(world: World, body: Mapping[str, Any], post: Post) -> Any:
    """As Close does it by itself. Body: subscription_id, and the reason that it shall give."""
    reason = body.get("reason", "failing")
    found = world.subscriptions.find(str(body.get("subscription_id")))
    if found is None:
        raise Invalid.field("subscription_id", "is the id of a webhook subscription")
    if not isinstance(reason, str):
        raise Invalid.field("reason", "is a text")
    with world.lock:
        found.pause(reason)
        return found.as_json(world.now(), with_key=False)


def _order_fault(world: World, body: Mapping[str, Any], post: Post) -> Any:
    """Body: status, times, text (sent as it stands), path (as in `event/`), headers."""
    status, times, text = body.get("status"), body.get("times", 1), body.get("text")
    path, headers = body.get("path", ""), body.get("headers", {})
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise Invalid.field("status", "is a number from 200 to 599")
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= 10**6:
        raise Invalid.field("times", "is a number from 1 to 10**6")
    if not isinstance(text, str | None) or not isinstance(path, str):
        raise Invalid.field("text", "text and path are texts")
    if not isinstance(headers, Mapping) or not all(isinstance(at, str) and at.isprintable() for at in headers.values()):
        raise Invalid.field("headers", "is an object of texts")
    if not all(name.isascii() and name.replace("-", "").isalnum() for name in headers):
        raise Invalid.field("headers", "has names of letters, digits and hyphens")
    if not all(at.isascii() for at in headers.values()):
        raise Invalid.field("headers", "has ASCII values")
    world.fail_next(status, times, text, path, headers)
    return {"orders": len(world.faults)}


def _deliver(world: World, body: Mapping[str, Any], post: Post) -> Any:
    """Post what is due now; with `drain`, move the time on until nothing waits."""
    attempts = world.drain(post) if body.get("drain") is True else world.deliver(post)
    taken = sum(attempt.is_taken for attempt in attempts)
    return {"attempts": len(attempts), "taken": taken, "waiting": world.waiting(), "now": stamp(world.now())}


#: Longer than changes are consolidated for, and short enough for a story to end within the tolerance of signatures.
_BETWEEN_STEPS = timedelta(seconds=6)


def _tell(world: World, body: Mapping[str, Any], post: Post) -> Any:
    return {"steps": STORY.tell(world, apart=_BETWEEN_STEPS)}

"""Which events or deliveries are meant: one grammar for the command line, the dashboard and Python.

`Selection.parse` turns texts (`{"type": "lead.**", "since": "6h"}`) into a frozen `Selection`, or raises a
`SelectionError` that says what was expected and points at the character. `to_mapping` is the way back, with times
made absolute, so that a recorded selection means the same tomorrow.

All conditions hold together. `since` and `until` speak of the time of arrival: from `since` on, before `until`.
`state`, `handler` and `error` speak of an event's deliveries, and of one delivery at a time: `state=dead,
handler=h` finds events whose delivery *for h* is dead. `where` is an expression on the event's content (`Expression`).

Not here: the SQL (`store.conditions`). `where`, and a pattern that mixes `*` with an inner `**`, cannot be said in SQL;
`matches` judges them, row by row.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.errors import InvalidPattern, SelectionError
from webhooks.formats import one_line
from webhooks.model import DeliveryState, Event
from webhooks.routing import Pattern

#: Longest text of any one condition.
LONGEST_TEXT = 2_000
#: How deep parentheses, lists and `not` may be nested in `where`.
DEEPEST_NESTING = 40
#: Ids are 63-bit integers.
LARGEST_ID = 2**63 - 1
#: In place of a state: events that no handler asked for.
UNROUTED = "unrouted"

STATES: Mapping[str, DeliveryState] = {state.label: state for state in DeliveryState}


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected; None (or empty) means that a condition is not asked for.

    events: ids. type: a pattern. states: any of these; unrouted: events without any delivery (or, with states too).
    since, until: aware UTC. error: a glob over the reason of a delivery. where: an expression on the content.
    """

    events: tuple[int, ...] = ()
    source: str | None = None
    type: str | None = None
    states: tuple[DeliveryState, ...] = ()
    unrouted: bool = False
    handler: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    where: Expression | None = None

    @classmethod
    def parse(cls, conditions: Mapping[str, Any], now: datetime) -> Selection:
        """Read conditions: texts by the names of `CONDITIONS`; None and "" mean "not asked for".

        `event` and `state` may be one text (states also comma-separated) or a sequence of texts. now: aware; relative
        times count back from it. Raises `SelectionError` at the first condition that cannot be read.
        """
        values: dict[str, Any] = {}
        for name, value in conditions.items():
            if value is None or value == "" or value == ():
                continue
            reader = _READERS.get(name)
            if reader is None:
                raise SelectionError(
                    f"{name!r} is not a condition{did_you_mean(name, CONDITIONS)}; conditions: {', '.join(CONDITIONS)}",
                    name,
                )
            texts = [value] if isinstance(value, (str, datetime, int)) else list(value)
            if len(texts) > 1 and name not in ("event", "state"):
                raise SelectionError(f"{name}: given {len(texts)} times; it takes one value", str(texts[1]))
            for text in texts:
                values.update(reader(name, text if isinstance(text, datetime) else str(text), now, values))
        selection = cls(**values)
        if selection.since is not None and selection.until is not None and selection.since >= selection.until:
            raise SelectionError(
                f"since ({_iso(selection.since)}) is not before until ({_iso(selection.until)}), "
                "so nothing is selected; swap them",
                _iso(selection.since),
            )
        return selection

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for, so that everything is selected."""
        return self == Selection()

    @property
    def asks_about_deliveries(self) -> bool:
        """Whether an event is judged by its deliveries."""
        return bool(self.states or self.unrouted or self.handler is not None or self.error is not None)

    @property
    def is_exact_in_sql(self) -> bool:
        """Whether the database alone can decide; else `matches` has to look at each row as well."""
        return self.where is None and (self.type is None or is_exact_in_sql(self.type))

    def matches(self, event: Event) -> bool:
        """Judge what the database cannot: the type pattern and `where`. Raises nothing."""
        return self.matches_type(event.type) and (self.where is None or self.where.matches(event))

    def matches_type(self, type: str) -> bool:
        return self.type is None or Pattern(self.type).matches(type)

    def only(self, **conditions: Any) -> Selection:
        """The same with some fields replaced."""
        return replace(self, **conditions)

    def to_mapping(self) -> dict[str, Any]:
        """The conditions as texts that `parse` reads, with times made absolute; what is not asked for is missing."""
        mapping: dict[str, Any] = {}
        if self.events:
            mapping["event"] = [str(id) for id in self.events]
        for name in ("source", "type"):
            mapping[name] = getattr(self, name)
        states = [state.label for state in self.states] + [UNROUTED] * self.unrouted
        mapping["state"] = ",".join(states) or None
        for name in ("handler", "key"):
            mapping[name] = getattr(self, name)
        mapping["since"] = self.since and _iso(self.since)
        mapping["until"] = self.until and _iso(self.until)
        mapping["error"] = self.error
        mapping["where"] = self.where and self.where.text
        return {name: value for name, value in mapping.items() if value is not None}

    def __str__(self) -> str:
        """As on a command line, for people."""
        words = list(self.to_mapping().get("event", []))
        for name, value in self.to_mapping().items():
            if name != "event":
                words.append(f"--{name} {_quoted(value)}")
        return one_line(" ".join(words)) or "everything"


#: Each `**` of a pattern doubles the SQL; with more of them than this, only the text before the first is looked at.
MOST_DOUBLE_WILDCARDS = 4


def is_exact_in_sql(pattern: str) -> bool:
    """Whether the database's LIKE can say a type pattern; it cannot where `*` stands beside `**`."""
    segments = pattern.split(".")
    doubles = segments.count("**")
    return doubles == len(segments) or (doubles <= MOST_DOUBLE_WILDCARDS and not (doubles and "*" in segments))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


# -- reading one condition ---------------------------------------------------------------------------------

_Reader = Callable[[str, Any, datetime, Mapping[str, Any]], Mapping[str, Any]]


def _plain(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise SelectionError(f"{name}: {len(text)} characters; at most {LONGEST_TEXT} are taken", text[:80])
    for position, character in enumerate(text):
        # no stored key holds a NUL or a lone surrogate, and PostgreSQL refuses both
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise SelectionError(f"{name}: character {position + 1} cannot be in a stored text", text, position)
    return text


def _read_text(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _plain(name, text)}


def _read_event(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"events": (*before.get("events", ()), parse_id(text, "event"))}


def parse_id(text: str, what: str = "event") -> int:
    """An id as people write it: decimal digits. Raises `SelectionError`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= LARGEST_ID):
        raise SelectionError(
            f"{one_line(text, 80)!r} is no {what}'s id: ids are decimal numbers, such as 889211340439552", text
        )
    return int(text)


def _read_type(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    _plain(name, text)
    try:
        Pattern(text)
    except InvalidPattern as error:
        raise SelectionError(f"type: {error}", text, _where_broken(text)) from error
    return {"type": text}


def _where_broken(pattern: str) -> int:
    """The position of the first segment that alone is no pattern."""
    position = 0
    for segment in pattern.split("."):
        try:
            Pattern(segment)
        except InvalidPattern:
            return position
        position += len(segment) + 1
    return 0


def _read_state(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    states: dict[DeliveryState, None] = dict.fromkeys(before.get("states", ()))
    unrouted = bool(before.get("unrouted", False))
    position = 0
    for word in text.split(","):
        label = word.strip().lower()
        if label == UNROUTED:
            unrouted = True
        elif label in STATES:
            states[STATES[label]] = None
        else:
            known = [*STATES, UNROUTED]
            raise SelectionError(
                f"state: {one_line(word, 40)!r} is not a state{did_you_mean(label, known)}; states: {', '.join(known)}",
                text,
                position,
            )
        position += len(word) + 1
    return {"states": tuple(sorted(states)), "unrouted": unrouted}


def _read_time(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: parse_time(text, now, name)}


_READERS: Mapping[str, _Reader] = {
    "event": _read_event,
    "source": _read_text,
    "type": _read_type,
    "state": _read_state,
    "handler": _read_text,
    "key": _read_text,
    "since": _read_time,
    "until": _read_time,
    "error": _read_text,
    "where": lambda name, text, now, before: {"where": Expression.parse(_plain(name, text))},
}
#: The names that `Selection.parse` knows.
CONDITIONS: Sequence[str] = tuple(_READERS)
assert len(CONDITIONS) == len(fields(Selection)) - 1  # states and unrouted are one condition


# -- times -------------------------------------------------------------------------------------------------

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION_PART = re.compile(r"([0-9]{1,9})([a-z]+)")
_EXPECTED_TIME = "use a time ago such as 90s, 15m, 6h, 2d, 1w, or an instant such as 2026-03-10T14:05:12Z"
_EXPECTED_DURATION = "use a number and a unit such as 90s, 15m, 6h, 2d, 1w"


def parse_duration(text: str, name: str = "duration") -> timedelta:
    """`90s`, `15m`, `6h`, `2d`, `1w`, or several together (`1h30m`). Raises `SelectionError`."""
    return _duration(text, name, _EXPECTED_DURATION)


def _duration(text: str, name: str, expected: str) -> timedelta:
    total = timedelta(0)
    position = 0
    lowered = text.strip().lower()
    if not lowered:
        raise SelectionError(f"{name}: nothing given; {expected}", text)
    while position < len(lowered):
        part = _DURATION_PART.match(lowered, position)
        if part is None:
            raise SelectionError(
                f"{name}: {one_line(text, 60)!r} cannot be read at character {position + 1}; {expected}", text, position
            )
        unit = _UNITS.get(part[2])
        if unit is None:
            raise SelectionError(f"{name}: {part[2]!r} is not a unit; {expected}", text, part.start(2))
        try:
            total += int(part[1]) * unit
        except OverflowError:
            raise SelectionError(
                f"{name}: {one_line(text, 60)!r} is too long a time; {expected}", text, position
            ) from None
        position = part.end()
    return total


def parse_time(value: str | datetime, now: datetime, name: str = "time") -> datetime:
    """An instant: a duration before `now`, or ISO 8601 (without an offset it is UTC). Raises `SelectionError`."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    text = _plain(name, value)
    if text.strip().lower() == "now":
        return now.astimezone(UTC)
    try:
        instant = datetime.fromisoformat(text.strip())
        return instant.astimezone(UTC) if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        # not an instant (or one outside the calendar): the duration's message names both forms
        pass
    ago = _duration(text, name, _EXPECTED_TIME)
    try:
        return now.astimezone(UTC) - ago
    except OverflowError:
        raise SelectionError(f"{name}: {one_line(text, 60)!r} is before the year 1; {_EXPECTED_TIME}", text) from None


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


# -- globs -------------------------------------------------------------------------------------------------


#: Wildcards among literals; no literal holds a NUL.
ANY_TEXT = "\0*"
ANY_CHARACTER = "\0?"


def glob_parts(glob: str) -> list[str]:
    """A glob cut into literals, `ANY_TEXT` for `*` and `ANY_CHARACTER` for `?`; without either it is found anywhere."""
    if "*" not in glob and "?" not in glob:
        return [ANY_TEXT, glob, ANY_TEXT]
    wild = {"*": ANY_TEXT, "?": ANY_CHARACTER}
    return [wild.get(part, part) for part in re.split(r"([*?])", glob) if part]


# -- the expression language of `where` ---------------------------------------------------------------------

#: The first word of a path: what of an event it names.
ROOTS: Mapping[str, Callable[[Event], Any]] = {
    "data": lambda event: event.data,
    "previous": lambda event: event.previous,
    "changed_fields": lambda event: list(event.changed_fields),
    "meta": lambda event: event.meta,
    "type": lambda event: event.type,
    "source": lambda event: event.source,
    "action": lambda event: event.action,
    "object_type": lambda event: event.object_type,
    "object_id": lambda event: event.object_id,
    "key": lambda event: event.dedup_key,
    "id": lambda event: str(event.id),
    "revision": lambda event: event.revision,
    "headers": lambda event: event.headers,
    "origin": lambda event: str(event.origin),
}


class _Missing:
    """What a path yields when there is nothing; equal to null, but `exists` tells the two apart."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()

#: An expression compiled: judges an event.
_Judge = Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition on an event's content, such as `data.lead_id == "lead_x" and "status_id" in changed_fields`.

    Operators: == != < <= > >=, `in`, `not in`, `contains`, `exists`, `and`, `or`, `not`, parentheses. Literals: "text"
    or 'text', numbers, true, false, null, lists. Paths begin with one of `ROOTS`; `data.custom.cf_x` finds the flat key
    "custom.cf_x" as well as a nested one, `data.attachments[0].url` an element, `data["a key"]` any key.

    A path that leads nowhere is null. Values of different kinds are unequal, and neither is less; nothing raises.
    """

    text: str
    judge: _Judge

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression. Raises `SelectionError`, with the position of what was not expected."""
        return cls(text, _Parser(text).parse())

    def matches(self, event: Event) -> bool:
        return truth(self.judge(event))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def truth(value: Any) -> bool:
    """Missing, null, false, 0, "", [] and {} are false."""
    return value is not MISSING and bool(value)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word", "text", "number", "sign" or "end"
    value: Any
    position: int
    source: str


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,|\.)
      | (?P<number>-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?(?![A-Za-z0-9_]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<quote>["'])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", '"': '"', "'": "'", "/": "/"}
_CONSTANTS = {"true": True, "false": False, "null": None}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_KEYWORDS = ("and", "or", "not", "in", "contains", "exists", *_CONSTANTS)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            character = text[position]
            hint = ""
            if character in "=&|!":
                hint = {"=": "; write == to compare", "&": "; write and", "|": "; write or", "!": "; write not"}[
                    character
                ]
            raise _unexpected(text, position, f"{one_line(character)!r} is not part of an expression{hint}")
        kind = str(found.lastgroup)
        if kind == "quote":
            value, end = _read_quoted(text, position)
            tokens.append(_Token("text", value, position, text[position:end]))
            position = end
            continue
        if kind == "number":
            number = found["number"]
            tokens.append(_Token(kind, float(number) if set(number) & set(".eE") else int(number), position, number))
        elif kind != "space":
            tokens.append(_Token(kind, found[0], position, found[0]))
        position = found.end()
    tokens.append(_Token("end", None, len(text), ""))
    return tokens


def _read_quoted(text: str, start: int) -> tuple[str, int]:
    """The text between the quote at `start` and its fellow, and the position after that."""
    quote = text[start]
    characters: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == quote:
            # \u escapes may come in surrogate pairs, as JSON writes what is beyond them
            value = "".join(characters).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            return value, position + 1
        if character == "\\":
            escape = text[position + 1 : position + 2]
            if escape == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", text[position + 2 : position + 6]):
                characters.append(chr(int(text[position + 2 : position + 6], 16)))
                position += 6
                continue
            if escape not in _ESCAPES:
                raise _unexpected(
                    text, position, r"this escape is unknown; use \\ \" \' \n \t or \u followed by 4 hex digits"
                )
            characters.append(_ESCAPES[escape])
            position += 2
            continue
        characters.append(character)
        position += 1
    raise _unexpected(text, start, f"this {quote} is never closed")


def _unexpected(text: str, position: int, message: str) -> SelectionError:
    return SelectionError(f"where: character {position + 1}: {message}", text, position)


class _Parser:
    """Recursive descent over the tokens; each method answers with a compiled judge."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.place = 0
        self.depth = 0

    # -- tokens --------------------------------------------------------------------------------------------

    @property
    def token(self) -> _Token:
        return self.tokens[self.place]

    def take(self, *sources: str) -> _Token | None:
        """The next token if it is one of these signs or words."""
        token = self.token
        if token.kind in ("sign", "word") and token.value in sources:
            self.place += 1
            return token
        return None

    def expect(self, source: str, opened: _Token) -> None:
        if self.take(source) is None:
            raise self.wrong(f"expected {source!r} for the {opened.source!r} at character {opened.position + 1}")

    def wrong(self, expected: str) -> SelectionError:
        token = self.token
        met = "the expression ends here" if token.kind == "end" else f"{one_line(token.source, 40)!r} was not expected"
        return _unexpected(self.text, token.position, f"{met}; {expected}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST_NESTING:
            raise _unexpected(self.text, self.token.position, f"nested deeper than {DEEPEST_NESTING} levels")

    # -- grammar -------------------------------------------------------------------------------------------

    def parse(self) -> _Judge:
        if self.token.kind == "end":
            raise SelectionError(
                'where: the expression is empty; write one such as data.lead_id == "lead_x"', self.text, 0
            )
        judge = self.either()
        if self.token.kind != "end":
            near = ""
            if self.token.kind == "word":
                near = did_you_mean(self.token.value, _KEYWORDS)
            raise self.wrong(f"expected and, or, a comparison, or the end{near}")
        return judge

    def either(self) -> _Judge:
        judges = [self.both()]
        while self.take("or"):
            judges.append(self.both())
        return judges[0] if len(judges) == 1 else lambda event: any(truth(judge(event)) for judge in judges)

    def both(self) -> _Judge:
        judges = [self.negation()]
        while self.take("and"):
            judges.append(self.negation())
        return judges[0] if len(judges) == 1 else lambda event: all(truth(judge(event)) for judge in judges)

    def negation(self) -> _Judge:
        if self.take("not"):
            self.deeper()
            judge = self.negation()
            self.depth -= 1
            return lambda event: not truth(judge(event))
        return self.comparison()

    def comparison(self) -> _Judge:
        left = self.operand()
        if self.take("exists"):
            return lambda event: left(event) is not MISSING
        if (token := self.take(*_COMPARISONS, "in", "contains")) is not None:
            return _compare(str(token.value), left, self.operand())
        if (
            self.token.value == "not"
            and self.token.kind == "word"
            and self.tokens[self.place + 1].value in ("in", "exists", "contains")
        ):
            self.place += 1
            if self.take("exists"):
                return lambda event: left(event) is MISSING
            operator = str((self.take("in", "contains") or self.token).value)
            inner = _compare(operator, left, self.operand())
            return lambda event: not inner(event)
        return left

    def operand(self) -> _Judge:
        token = self.token
        if token.kind in ("text", "number"):
            self.place += 1
            return lambda event: token.value
        if (opened := self.take("(")) is not None:
            self.deeper()
            judge = self.either()
            self.expect(")", opened)
            self.depth -= 1
            return judge
        if (opened := self.take("[")) is not None:
            return self.list_of(opened)
        if token.kind == "word" and token.value in _CONSTANTS:
            self.place += 1
            return lambda event: _CONSTANTS[token.value]
        if token.kind == "word" and token.value not in _KEYWORDS:
            return self.path()
        raise self.wrong('expected a path such as data.lead_id, or a value such as "text", 5, true, null')

    def list_of(self, opened: _Token) -> _Judge:
        self.deeper()
        judges: list[_Judge] = []
        while not self.take("]"):
            judges.append(self.operand())
            if not self.take(","):
                self.expect("]", opened)
                break
        self.depth -= 1
        return lambda event: [judge(event) for judge in judges]

    def path(self) -> _Judge:
        root = self.token
        if root.value not in ROOTS:
            near = did_you_mean(root.value, [*ROOTS, *_KEYWORDS])
            raise _unexpected(
                self.text,
                root.position,
                f"{one_line(root.source, 40)!r} is not a part of an event{near}; "
                f"a path begins with one of {', '.join(ROOTS)} (a text is written in quotes)",
            )
        self.place += 1
        steps: list[str | int] = []
        while True:
            if self.take("."):
                token = self.token
                if token.kind != "word":
                    raise self.wrong('expected a field\'s name after the dot; write ["…"] for other keys')
                self.place += 1
                steps.append(token.source)
            elif (opened := self.take("[")) is not None:
                token = self.token
                if token.kind != "text" and not (token.kind == "number" and isinstance(token.value, int)):
                    raise self.wrong("expected a text or a whole number between the brackets")
                self.place += 1
                steps.append(token.value)
                self.expect("]", opened)
            else:
                break
        read = ROOTS[root.value]
        path = tuple(steps)
        return lambda event: step_into(read(event), path)


def step_into(value: Any, path: Sequence[str | int]) -> Any:
    """Follow `path` into decoded JSON; MISSING when it leads nowhere. A dotted key is found by its dotted path.

    The shortest key wins where both "a" and "a.b" exist and lead somewhere.
    """
    if not path:
        return value
    step = path[0]
    if isinstance(value, Mapping):
        name = ""
        for taken, part in enumerate(path, 1):
            if not isinstance(part, str):
                break
            name = part if taken == 1 else f"{name}.{part}"
            if name in value:
                found = step_into(value[name], path[taken:])
                if found is not MISSING:
                    return found
        return MISSING
    if isinstance(value, (list, tuple)) and isinstance(step, int) and -len(value) <= step < len(value):
        return step_into(value[step], path[1:])
    return MISSING


def _compare(operator: str, left: _Judge, right: _Judge) -> _Judge:
    if operator == "==":
        return lambda event: _equal(left(event), right(event))
    if operator == "!=":
        return lambda event: not _equal(left(event), right(event))
    if operator == "in":
        return lambda event: _contains(right(event), left(event))
    if operator == "contains":
        return lambda event: _contains(left(event), right(event))
    return lambda event: _ordered(operator, left(event), right(event))


def _equal(left: Any, right: Any) -> bool:
    left, right = (None if left is MISSING else left), (None if right is MISSING else right)
    if isinstance(left, bool) is not isinstance(right, bool):
        return False  # Python has True == 1
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    if isinstance(whole, Mapping):
        return isinstance(part, str) and part in whole
    return isinstance(whole, (list, tuple)) and any(_equal(element, part) for element in whole)


def _ordered(operator: str, left: Any, right: Any) -> bool:
    both_text = isinstance(left, str) and isinstance(right, str)
    if not both_text and not (_is_number(left) and _is_number(right)):
        return False
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""The expression language of `where`: `data.status == "won" and "status" in changed_fields`.

Operators: == != < <= > >=, `in`, `not in`, `contains`, `exists`, `and`, `or`, `not`, parentheses. Literals: "text" or
'text', numbers, true, false, null, lists. Paths begin with a part of an event; `data.custom.cf_x` finds the flat key
"custom.cf_x" as well as a nested one, `data.attachments[0].url` or `data.attachments.0.url` an element,
`data["a key"]` any key.

A path that leads nowhere is null. Missing, null, false, 0, "", [] and {} count as false. How paths are read and values
compare is said in `formats.paths`, for `field()` of handlers too; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from webhooks.errors import SelectionError
from webhooks.formats import MISSING, OPERATORS, ROOTS, EventPath, did_you_mean, exists, nearest_root, one_line
from webhooks.model import Event

#: How deep parentheses, lists and `not` may be nested.
DEEPEST_NESTING = 40

#: An expression compiled: judges an event.
_Judge = Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition on an event's content, such as `data.status == "won" and "status" in changed_fields`.

    text: as it was written, without space around it.
    judge: what it yields for an event; raises nothing.
    """

    text: str
    judge: _Judge

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression. Raises `SelectionError`, with the position of what was not expected."""
        return cls(text.strip(), _Parser(text).parse())

    def matches(self, event: Event) -> bool:
        """Whether the expression holds for an event. Raises nothing."""
        return bool(self.judge(event))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


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
            raise SelectionError('where: the expression is empty; write one such as data.status == "won"', self.text, 0)
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
        return judges[0] if len(judges) == 1 else lambda event: any(judge(event) for judge in judges)

    def both(self) -> _Judge:
        judges = [self.negation()]
        while self.take("and"):
            judges.append(self.negation())
        return judges[0] if len(judges) == 1 else lambda event: all(judge(event) for judge in judges)

    def negation(self) -> _Judge:
        if self.take("not"):
            self.deeper()
            judge = self.negation()
            self.depth -= 1
            return lambda event: not judge(event)
        return self.comparison()

    def comparison(self) -> _Judge:
        left = self.operand()
        is_negated = self.token.source == "not" and self.tokens[self.place + 1].source in ("in", "exists", "contains")
        if is_negated:
            self.place += 1
        if self.take("exists"):
            judge: _Judge = lambda event: exists(left(event))  # noqa: E731
        elif (token := self.take(*OPERATORS)) is not None:
            holds, right = OPERATORS[token.source], self.operand()
            judge = lambda event: holds(left(event), right(event))  # noqa: E731
        else:
            return left
        return (lambda event: not judge(event)) if is_negated else judge

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
        raise self.wrong('expected a path such as data.status, or a value such as "text", 5, true, null')

    def list_of(self, opened: _Token) -> _Judge:
        self.deeper()
        judges: list[_Judge] = []
        while not self.take("]"):
            judges.append(self.operand())
            if not self.take(","):
                self.expect("]", opened)
                break
        self.depth -= 1
        return lambda event: [None if (value := judge(event)) is MISSING else value for judge in judges]

    def path(self) -> _Judge:
        root = self.token
        if root.value not in ROOTS:
            near = nearest_root(root.value, _KEYWORDS)
            raise _unexpected(
                self.text,
                root.position,
                f"{one_line(root.source, 40)!r} is not a part of an event{f' (did you mean {near!r}?)' if near else ''}; "
                f"a path begins with one of {', '.join(ROOTS)} (a text is written in quotes)",
            )
        self.place += 1
        steps: list[str | int] = []
        while True:
            if self.take("."):
                steps += self.step()
            elif (opened := self.take("[")) is not None:
                token = self.token
                if token.kind != "text" and not (token.kind == "number" and isinstance(token.value, int)):
                    raise self.wrong("expected a text or a whole number between the brackets")
                self.place += 1
                steps.append(token.value)
                self.expect("]", opened)
            else:
                return EventPath(str(root.value), steps).look_up

    def step(self) -> list[str | int]:
        """What stands behind a dot: a key, or places in lists (`.0`; `.0.1` is read as one number)."""
        token = self.token
        is_place = token.kind == "number" and set(token.source) <= set("0123456789.")
        if token.kind != "word" and not is_place:
            raise self.wrong('expected a field\'s name after the dot; write ["…"] for other keys')
        self.place += 1
        return list(token.source.split("."))

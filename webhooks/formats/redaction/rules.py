"""Replace what an event holds by values of the same kind and shape, so that it can leave as a fixture.

`FixtureRules` say what stays: fields whose values are words of the sender's protocol. Everything else is replaced, unknown fields
included; booleans, nulls and small integers stay, they name no one. A `Replacer` is for one run: the same value gets the
same replacement, so that what belongs together still does, and its key is forgotten with it, so that no other run does.

`Replacer.checked` looks whether a value that was replaced is left anywhere, decoded or encoded, and raises `Leak` with its path.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.formats.paths import Step
from webhooks.formats.redaction.paths import SHORTEST, Redaction

#: Integers up to here stay: counts, flags, positions.
SMALL = 99
#: What stays is a word of a protocol; longer or other texts are replaced in whatever field they stand.
_WORD = re.compile(r"[A-Za-z0-9_.:/+ -]{1,60}", re.ASCII)

#: A capital or a digit among its characters tells an id from a name with an underscore.
_ID = re.compile(r"([a-z]{2,12})_((?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,})", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_PHONE = re.compile(r"\+?[0-9][0-9 ()./-]{5,}[0-9]", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(.*)", re.ASCII | re.DOTALL)
_TOKEN = re.compile(r"\S+")
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class Leak(ValueError):
    """Something that was replaced is left in what is to be written. path: where it stood in the original."""

    def __init__(self, path: str) -> None:
        super().__init__(f"what stands at {path} is left elsewhere in the event; nothing was written")
        self.path = path


@dataclass(frozen=True)
class FixtureRules:
    """What stays in events of a sender.

    words: patterns of fields whose values are words of its protocol.
    dates: patterns of fields whose dates stay.
    """

    words: Redaction = field(default_factory=Redaction)
    dates: Redaction = field(default_factory=Redaction)

    @classmethod
    def of(cls, words: Sequence[str], dates: Sequence[str] = ()) -> FixtureRules:
        """FixtureRules of patterns, as `Redaction` takes them."""
        return cls(Redaction(words), Redaction(dates))

    def keeps(self, path: Sequence[Step], value: Any) -> bool:
        """Whether a value stays as it is: no object or list."""
        if value is None or isinstance(value, bool) or value == "":
            return True
        if isinstance(value, int):
            return abs(value) <= SMALL
        if not isinstance(value, str):
            return False
        if self.dates.names(path) and _DATE.fullmatch(value):
            return _WORD.fullmatch(value) is not None
        return self.words.names(path) and _WORD.fullmatch(value) is not None and _ID.fullmatch(value) is None


#: Nothing stays but what names no person: for senders without rules of their own.
STRICT = FixtureRules()


class Replacer:
    """Replaces the values of the events of one run. rules: what stays. key: made at random, and forgotten."""

    def __init__(self, rules: FixtureRules = STRICT, key: bytes | None = None) -> None:
        self.rules = rules
        self._key = os.urandom(32) if key is None else key
        self._numbers: dict[str, int] = {}
        #: {what was replaced: where it stood}, {what was made: of what}, and texts that stayed
        self._replaced: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._kept: set[str] = set()

    # -- values --------------------------------------------------------------------------------------------

    def replace(self, value: Any, path: Sequence[Step] = ()) -> Any:
        """Decoded JSON with everything replaced that the rules do not let stay."""
        if isinstance(value, Mapping):
            return {self._key_of(key, (*path, key)): self.replace(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.replace(each, (*path, place)) for place, each in enumerate(value)]
        if self.rules.keeps(path, value):
            return self._key_of(value, path) if isinstance(value, str) else value
        if isinstance(value, str):
            return self._noted(self.text(value), value, path)
        number = self._number(value)
        self._noted(str(number), str(value), path)
        return number

    def headers(self, headers: Mapping[str, str], stay: Iterable[str] = ("content-type",)) -> dict[str, str]:
        """Headers with their values replaced. stay: names of those that do."""
        kept = {name.lower() for name in stay}
        found = {}
        for name, value in headers.items():
            self._kept.add(name)
            if name.lower() in kept:
                self._kept.add(value)
                found[name] = value
            else:
                found[name] = self._noted(self.text(value), value, ("headers", name))
        return found

    def _key_of(self, key: str, path: Sequence[Step]) -> str:
        """A key, or a word that stays; one that holds an id goes along with that id."""
        new = _ID.sub(lambda match: self._noted(self._id(match), match[0], path), key)
        if new == key:
            self._kept.add(key)
        return new

    def _noted(self, new: str, old: str, path: Sequence[Step]) -> str:
        if new != old:
            self._made[new] = old
            if len(old) >= SHORTEST:
                self._replaced.setdefault(old, ".".join(map(str, path)))
        return new

    # -- kinds ---------------------------------------------------------------------------------------------

    def text(self, text: str) -> str:
        """Another text of the same kind and shape."""
        if not text.strip():
            return text
        if match := _ID.fullmatch(text):
            return self._id(match)
        if _UUID.fullmatch(text):
            digits = self._digest("uuid", text).hex()[:32]
            return "-".join(digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        if _EMAIL.fullmatch(text):
            return f"person{self._count('person', text.lower())}@example.com"
        if _URL.fullmatch(text):
            return f"https://example.com/{self._count('page', text)}"
        if match := _DATE.fullmatch(text):
            return self._date(text, match[1])
        if _PHONE.fullmatch(text):
            number = self._count("phone", text)
            return f"+1 555 01{number % 100:02d}" + (f" {number}" if number > 99 else "")
        return _TOKEN.sub(lambda match: self._token(match[0]), text)

    def _id(self, match: re.Match[str]) -> str:
        """`lead_Ab3…` becomes `lead_` and as many other characters."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return f"{match[1]}_{self._drawn(match[0], letters, len(match[2]))}"

    def _token(self, token: str) -> str:
        """A word becomes a made-up one of its length, with its capitals; ids and addresses within texts their like."""
        if token.strip(".,;:!?()[]{}<>\"'") != token or not token.isalpha():
            inner = _EMAIL.search(token) or _ID.search(token)
            if inner is not None:
                return f"{self.text(inner[0])}"
            digits = sum(character.isdigit() for character in token)
            if digits and digits == len(token):
                return self._drawn(token, "0123456789", len(token))
        sounds = "".join(
            self._drawn(f"{token}\0{place}", _VOWELS if place % 2 else _CONSONANTS, 1) for place in range(len(token))
        )
        return (
            sounds.upper()
            if token.isupper() and len(token) > 1
            else sounds.capitalize()
            if token[:1].isupper()
            else sounds
        )

    def _date(self, text: str, rest: str) -> str:
        day = date(2020, 1, 1) + timedelta(days=self._digest("date", text)[0])
        return (
            f"{day.isoformat()}{re.sub('[0-9]', '0', rest)}"
            if _DATE.fullmatch(text) and not rest.isalpha()
            else str(day)
        )

    def _number(self, value: Any) -> int | float:
        """A number of as many digits; a sum of money stays one."""
        text = str(value)
        if isinstance(value, int):
            digits = self._drawn(text, "123456789", max(1, min(len(text.lstrip("-")), 18)))
            return -int(digits) if value < 0 else int(digits)
        whole = self._drawn(text, "123456789", 3)
        return float(f"{'-' if value < 0 else ''}{whole}.{self._drawn(whole, '123456789', 2)}")

    def _count(self, kind: str, text: str) -> int:
        """The number of a text among its kind, in the order in which they came."""
        return self._numbers.setdefault(
            f"{kind}\0{text}", 1 + sum(key.startswith(f"{kind}\0") for key in self._numbers)
        )

    def _drawn(self, text: str, letters: str, length: int) -> str:
        drawn = ""
        while len(drawn) < length:
            drawn += "".join(letters[byte % len(letters)] for byte in self._digest(f"{len(drawn)}", text))
        return drawn[:length]

    def _digest(self, kind: str, text: str) -> bytes:
        data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, data, hashlib.sha256).digest()

    # -- the check -----------------------------------------------------------------------------------------

    def checked(self, document: Any) -> bytes:
        """A document as JSON, once nothing that was replaced is in it. Raises `Leak`.

        A text that also stays as a word of the protocol, such as the name of a field, tells nothing and is not looked for.
        Nor does what was made of another text and has it by chance: of the made-up ids of leads one in 62 begins with `lead_1`.
        """
        texts = [(text, jsonio.dump(text).decode("utf-8", "replace")) for text in _texts_in(document)]
        kept = "\n".join(self._kept)
        for old, path in self._replaced.items():
            if old in kept:
                continue
            forms = {old, jsonio.dump(old)[1:-1].decode("utf-8", "replace"), ascii(old)[1:-1]}
            for text, written in texts:
                if any(form in text or form in written for form in forms) and old in self._made.get(text, old):
                    raise Leak(path)
        return jsonio.dump(document)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts_in(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


__all__ = ["SMALL", "STRICT", "FixtureRules", "Leak", "Replacer"]

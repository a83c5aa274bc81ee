"""Who may send an email of the local Close: one mailbox of RFC 5322, as Python's parser of mail reads it too."""

from __future__ import annotations

from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.sandbox.resources.emails import sender
from webhooks.sandbox.resources.resource import WrongValue

LEGAL = (
    "ada@example.com",
    "<ada@example.com>",
    "Ada <ada@example.com>",
    "Ada<ada@example.com>",
    "Ada Lovelace <ada@example.com>",
    "Ada M. Lovelace <ada@example.com>",
    "O'Neil <ada@example.com>",
    "Jörg Müller <joerg@example.com>",
    "=?utf-8?q?J=C3=B6rg?= <joerg@example.com>",
    '"Lovelace, Ada" <ada@example.com>',
    '"Ada \\"the first\\"" <ada@example.com>',
    '"" <ada@example.com>',
    "Ada (at work) <ada@example.com>",
    'Ada "the first" Lovelace <ada@example.com>',
    "Ada <ada+news@mail.example.com>",
)
ILLEGAL = (
    "",
    " ",
    "Ada",
    "Ada <>",
    "Ada <ada>",
    "Ada <ada@>",
    "Ada <@example.com>",
    "Ada <ada@example.com",
    "Ada ada@example.com>",
    "Ada <ada@example.com> Lovelace",
    "Ada <<ada@example.com>>",
    "Lovelace, Ada <ada@example.com>",
    "Ada <ada@example.com>, Rosa <rosa@example.com>",
    "Ada <ada@example.com>;",
    "Friends: ada@example.com;",
    "Ada @ Work <ada@example.com>",
    "Ada [x] <ada@example.com>",
    "Ada: <ada@example.com>",
    '"Ada <ada@example.com>',
    "ada@example@com <ada@example.com>",
    "a b@example.com",
    "ada@exam ple.com",
    "ada@@example.com",
    "ada@example..com",
    "Ada\r\nBcc: <ada@example.com>",
    '"Ada\r\nBcc: x" <ada@example.com>',
    "Ada\0 <ada@example.com>",
    "Ada\x1b[31m <ada@example.com>",
)

_ATEXT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/^_`{|}~"  # RFC 5322, 3.2.3
_atom = st.text(_ATEXT, min_size=1, max_size=12)
_quoted = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=20).map(
    lambda text: f'"{text}"'
)
_word = _atom.filter(lambda text: "=?" not in text) | _quoted


@each("value", LEGAL)
def test_a_mailbox_is_a_sender(value: str) -> None:
    assert sender(value) == value


@each("value", ILLEGAL)
def test_what_is_no_mailbox_is_refused(value: str) -> None:
    with pytest.raises(WrongValue):
        sender(value)


@given(st.lists(_word, min_size=1, max_size=4), st.text("abcdefghij0123456789-", min_size=1, max_size=10))
def test_every_display_name_of_words_is_legal(words: list[str], local: str) -> None:
    value = f"{' '.join(words)} <{local}@example.com>"
    assert sender(value) == value


@given(st.text(max_size=60) | st.text('Ada <>@.,;:\\"()[]\r\n\t\0é', max_size=40))
def test_what_is_taken_is_one_address_to_pythons_parser_of_mail_too(value: str) -> None:
    try:
        sender(value)
    except WrongValue:
        return
    ((_, address),) = getaddresses([value])
    assert "@" in address

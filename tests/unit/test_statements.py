"""The first words of a statement: what would begin or end a transaction is refused before it is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.session.statements import controls_transaction, first_words


@each(
    "statement",
    [
        b"commit", b"COMMIT work", b" \t\r\n\f\vcommit", b"; ;commit", b"-- a\ncommit", b"-- a\rcommit", b"/* a */commit",
        b"/* /* a */ commit */ commit", b"/**/--\n;/*;*/end", b"begin", b"start transaction", b"abort", b"end;",
        b"rollback", b"rollback work", b"rollback transaction", b"rollback and chain", b"rollback prepared 'x'",
        b"commit prepared 'x'", b"prepare transaction 'x'", b"prepare/**/TRANSACTION 'x'",
    ],
)  # fmt: skip
def test_what_controls_a_transaction(statement: bytes) -> None:
    assert controls_transaction(statement)


@each(
    "statement",
    [
        b"", b";", b"--", b"--commit", b"/* commit", b"/* /* */ commit", b"select 'commit'", b"committee", b"end_of_it()",
        b"savepoint a", b"release a", b"rollback to a", b"rollback work to savepoint a", b"rollback transaction to a",
        b"rollback/* */to a", b"prepare a as select 1", b"update t set a = 1", b"insert into begin_ values (1)", b"(select 1)",
        b'"commit"',
    ],
)  # fmt: skip
def test_what_does_not(statement: bytes) -> None:
    assert not controls_transaction(statement)


spaces = st.lists(
    st.sampled_from([b" ", b"\n", b"\t", b"-- x /* \n", b"/* -- */", b"/* /* ' */ */", b"/***/", b"/*/**/*/"]),
    max_size=4,
).map(b"".join)


@given(
    before=spaces, between=spaces.filter(bool), word=st.sampled_from([b"commit", b"eNd", b"Start"]), rest=st.binary()
)
def test_space_and_comments_hide_no_word(before: bytes, between: bytes, word: bytes, rest: bytes) -> None:
    assert first_words(before + word + between + b"1" + rest)[0] == word.lower()
    assert controls_transaction(before + b";" + before + word + between + b"1" + rest)


@given(st.binary(max_size=60))
def test_any_bytes_have_an_answer(statement: bytes) -> None:
    assert controls_transaction(statement) in (True, False)

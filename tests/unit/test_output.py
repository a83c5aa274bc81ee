"""What commands print: drawn and coloured on a terminal, plain and whole in a pipe."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest

from webhooks.cli import output
from webhooks.cli.catch_up import LogProgress

COLUMNS = ("ID", "STATE", "REASON")
ROWS = [("1", "succeeded", ""), ("889211340439552", "dead", "ValueError: \x1b[31mno\u202e 日本語")]
STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch, stream: str = "stdout") -> Terminal:
    """A terminal of 80 columns as a standard stream; called in a test, since pytest puts its own there before it."""
    made = Terminal()
    monkeypatch.setattr(sys, stream, made)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made


def columns_of(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line)


# -- tables ----------------------------------------------------------------------------------------------------


def test_in_a_pipe_a_table_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_table(COLUMNS, ROWS, empty="nothing")
    assert capsys.readouterr().out == (
        "ID               STATE      REASON\n"
        "1                succeeded\n"
        "889211340439552  dead       ValueError: \\x1b[31mno\\u202e 日本語\n"
    )


def test_in_a_pipe_nothing_is_cut_and_wide_letters_keep_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_table(("NAME", "N"), [("日本語", "1"), ("é" * 300, "2")], empty="nothing")
    first, second, third = capsys.readouterr().out.splitlines()
    assert len(third) == 303
    assert columns_of(first) == columns_of(second) == 303


def test_names_stay_whole_on_a_terminal_while_prose_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    row = ("47174", "activity.whatsapp_message.created", "handlers.whatsapp.mirror", "dead", "2", "why " * 30)
    columns = ("ID", "TYPE", "HANDLER", "STATE", "TRIES", "REASON")
    output.emit_table(columns, [row], empty="", spare=("TRIES", "REASON"))
    shown = STYLE.sub("", terminal.getvalue())
    assert "activity.whatsapp_message.created  handlers.whatsapp.mirror" in re.sub(r"  +", "  ", shown)
    assert "TRIES" not in shown
    monkeypatch.setenv("COLUMNS", "40")
    terminal = a_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    output.emit_table(columns, [row], empty="", spare=("TRIES", "REASON"))
    assert "activity.whatsapp_message.created  handlers.whatsapp.mirror  dead" in terminal.getvalue()


def test_no_rows_are_said_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_table(COLUMNS, [], empty="nothing is there")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing is there\n")


def test_on_a_terminal_a_table_is_drawn_with_its_states_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    output.emit_table(COLUMNS, ROWS, empty="nothing")
    shown = terminal.getvalue()
    assert "──" in shown
    assert re.search(r"\x1b\[3[0-9]msucceeded", shown)
    plain = STYLE.sub("", shown)
    assert "ValueError: \\x1b[31mno\\u202e 日本語" in plain
    assert all(each.isprintable() or each == "\n" for each in plain)
    assert all(columns_of(line) <= 80 for line in plain.splitlines())


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    output.emit_table(COLUMNS, ROWS, empty="nothing")
    output.emit_fields([("id", "1"), ("state", "dead")])
    output.heading("Payload")
    assert "──" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_columns_that_can_be_spared_go_first_from_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    row = ("889211340439552", "a type " * 5, "a key " * 5)
    output.emit_table(("ID", "TYPE", "KEY"), [row], empty="nothing", spare=("KEY", "TYPE"))
    heading = STYLE.sub("", terminal.getvalue())
    assert "TYPE" in heading
    assert "KEY" not in heading


# -- JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"id": "1", "text": "\x1b[31m日本語"}, {"a": [1, None, True]}])
def test_json_is_one_line_in_a_pipe(value: object, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.emit_json(value)
    shown = capsysbinary.readouterr().out
    assert shown.count(b"\n") == 1
    assert b"\x1b" not in shown
    assert json.loads(shown) == value


def test_text_that_is_no_unicode_is_shown_all_the_same(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.emit_json_line({"text": "\ud800"})
    assert json.loads(capsysbinary.readouterr().out) == {"text": "\ud800"}


# -- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"), (0.85, "850 ms"), (1, "1 s"), (59.94, "59.9 s"), (60, "1 min"), (185, "3 min 5 s"),
        (7500, "2 h 5 min"), (273_600, "3 d 4 h"), (-5, "-5 s"),
    ],
)  # fmt: skip
def test_a_duration_is_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert output.span(timedelta(seconds=seconds)) == text


def test_counts_are_said_with_their_noun() -> None:
    found = [output.counted(*each) for each in ((1, "event"), (2000, "delivery"), (0, "copy"))]
    assert found == ["1 event", "2,000 deliveries", "0 copies"]


def test_instants_are_utc_and_what_is_unknown_is_empty() -> None:
    at = datetime(2026, 3, 10, 14, 5, 12, 417_999, tzinfo=UTC)
    assert (output.when(at), output.iso(at)) == ("2026-03-10 14:05:12.417", "2026-03-10T14:05:12.417999Z")
    assert (output.when(None), output.iso(None), output.span(None)) == ("", None, "")


# -- progress --------------------------------------------------------------------------------------------------


def test_a_bar_shows_how_far_it_is_how_fast_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch, "stderr")
    with output.progress(1000, "replaying") as progress:
        for done in (0, 100, 250, 500):
            progress(done)
    shown = STYLE.sub("", screen.getvalue())
    assert "replaying" in shown
    assert "500/1000" in shown
    assert re.search(r"[0-9,]+/s", shown)
    assert re.search(r"[0-9]:[0-9]{2}:[0-9]{2}", shown)


@pytest.mark.parametrize("since", [datetime(2026, 3, 10, 8, tzinfo=UTC), None])
def test_a_catch_up_shows_how_much_of_the_log_it_has_read(
    monkeypatch: pytest.MonkeyPatch, since: datetime | None
) -> None:
    screen = a_terminal(monkeypatch, "stderr")
    start = datetime(2026, 3, 10, 8, tzinfo=UTC)
    with LogProgress(since, start + timedelta(hours=6)) as progress:
        for hours in range(4):
            progress(start + timedelta(hours=hours))
    shown = STYLE.sub("", screen.getvalue())
    assert "minutes of log" in shown
    assert "180/360" in shown


def test_a_catch_up_that_reads_nothing_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch, "stderr")
    with LogProgress(None, datetime(2026, 3, 10, 8, tzinfo=UTC)):
        pass
    assert screen.getvalue() == ""


def test_in_a_pipe_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress(10, "replaying") as progress:
        progress(10)
    assert capsys.readouterr() == ("", "")

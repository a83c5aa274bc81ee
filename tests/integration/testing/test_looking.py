"""Assertions on deliveries, and the texts by which they fail."""

from __future__ import annotations

import pytest

from webhooks.testing import Kit

pytestmark = pytest.mark.one_database


def said(caught: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    return str(caught.value).splitlines()


def test_what_holds_passes(kit: Kit) -> None:
    kit.post("lead.created", times=2)
    kit.post("opportunity.updated", set={"data.status_type": "lost"})
    kit.post("contact.created")
    kit.drain(raises=False)
    kit.advance()
    kit.drain(raises=False)
    kit.assert_delivered("welcome")
    kit.assert_delivered("won", times=1, state="cancelled")
    kit.assert_not_delivered("won")
    kit.assert_not_delivered("limited")
    kit.assert_filtered("won", reason="filtered: *value False")
    kit.assert_dead("broken", reason="LookupError: no such person*")


def test_what_fails_shows_what_there_is(kit: Kit) -> None:
    kit.post("lead.created")
    kit.post("opportunity.updated", set={"data.status_type": "lost"})
    kit.drain(handlers=["won"])
    with pytest.raises(AssertionError) as caught:
        kit.assert_delivered("welcome")
    head, *lines = said(caught)
    assert head == "handler 'welcome': expected 1 succeeded, found 0; there are:"
    assert lines[:2] == [
        "  HANDLER  STATE      TYPE                 ATTEMPTS  REASON",
        "  welcome  pending    lead.created         0",
    ]
    assert lines[2].startswith("  won      cancelled  opportunity.updated  ")
    with pytest.raises(AssertionError) as caught:
        kit.assert_not_delivered("welcome")
    assert said(caught)[0] == "handler 'welcome': expected none, found 1; there are:"
    with pytest.raises(AssertionError) as caught:
        kit.assert_filtered("won", reason="stale*")
    assert said(caught)[0] == "handler 'won': expected one filtered for 'stale*', found 0; there are:"
    with pytest.raises(AssertionError) as caught:
        kit.assert_dead("welcome")
    assert said(caught)[0] == "handler 'welcome': expected one dead for '*', found 0; there are:"


def test_many_are_cut_and_none_is_said(kit: Kit) -> None:
    with pytest.raises(AssertionError) as caught:
        kit.assert_delivered("welcome")
    assert said(caught) == ["handler 'welcome': expected 1 succeeded, found 0; there is no delivery at all"]
    for _ in range(22):
        kit.post("lead.created")
    with pytest.raises(AssertionError) as caught:
        kit.assert_delivered("welcome")
    assert said(caught)[-1] == "  and 2 more"

"""Conditions as people may give them, for the property tests of selections."""

from __future__ import annotations

from hypothesis import strategies as st

from webhooks.model import DeliveryState

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
#: What `parse` takes for most conditions.
selections = st.fixed_dictionaries(
    {},
    optional={
        "event": st.lists(st.integers(1, 2**63 - 1).map(str), min_size=1, max_size=3),
        "source": texts,
        "type": st.sampled_from(["lead.**", "*", "**", "a.*.b", "activity.call.updated"]),
        "state": st.lists(st.sampled_from([*(s.label for s in DeliveryState), "unrouted"]), min_size=1).map(",".join),
        "handler": texts,
        "key": texts,
        "since": st.sampled_from(["6h", "2d", "2020-01-01"]),
        "error": texts,
        "where": st.sampled_from(
            ["data.x", 'type == "a"', ' type == "a b" ', "not data.custom.cf_x exists", 'type in ["a", "b:c"]']
        ),
    },
)

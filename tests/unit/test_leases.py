"""What a heartbeat tells beside leases."""

from __future__ import annotations

from tests.support import each
from webhooks.delivery.leases import changed_means


@each(
    ("told", "means", "changed"),
    [
        ({}, {"h": 1.0}, {"h": 1.0}),
        ({"h": 1.0}, {"h": 1.19}, {}),
        ({"h": 1.0}, {"h": 1.21}, {"h": 1.21}),
        ({"h": 1.0}, {"h": 0.5, "g": 2.0}, {"h": 0.5, "g": 2.0}),
        ({"h": 1.0}, {}, {}),
    ],
)
def test_a_mean_is_told_when_a_scaler_would_count_otherwise(
    told: dict[str, float], means: dict[str, float], changed: dict[str, float]
) -> None:
    assert changed_means(told, means) == changed

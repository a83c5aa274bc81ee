"""What Kubernetes tells pods of a Service named `webhooks` stops nothing, and is named in one line."""

from __future__ import annotations

import pytest

from webhooks.errors import ConfigurationError
from webhooks.settings import load_settings
from webhooks.settings.service_links import is_service_link

#: Of a Service with a port that has a name.
LINKS = {
    "WEBHOOKS_PORT": "tcp://10.96.14.7:80",
    "WEBHOOKS_SERVICE_HOST": "10.96.14.7",
    "WEBHOOKS_SERVICE_PORT": "80",
    "WEBHOOKS_SERVICE_PORT_HTTP": "80",
    "WEBHOOKS_PORT_80_TCP": "tcp://10.96.14.7:80",
    "WEBHOOKS_PORT_80_TCP_PROTO": "tcp",
    "WEBHOOKS_PORT_80_TCP_PORT": "80",
    "WEBHOOKS_PORT_80_TCP_ADDR": "10.96.14.7",
}


def test_they_are_passed_over_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    settings = load_settings({**LINKS, "PORT": "8080", "WEBHOOKS_HOST": "0.0.0.0"}, file=None)
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    [record] = caplog.records
    assert all(name in record.getMessage() for name in LINKS)
    assert "enableServiceLinks: false" in record.getMessage()


def test_without_them_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert load_settings({"WEBHOOKS_PORT": "81"}, file=None).port == 81
    assert caplog.records == []


@pytest.mark.parametrize(
    "variable", ["WEBHOOKS_SERVICE", "WEBHOOKS_PORTS", "WEBHOOKS_PORT_X_TCP", "WEBHOOKS_SERVICE_NAME"]
)
def test_what_only_looks_like_one_is_a_mistake_as_ever(variable: str) -> None:
    assert not is_service_link(variable, "tcp://10.96.14.7:80")
    with pytest.raises(ConfigurationError, match=variable):
        load_settings({variable: "1"}, file=None)

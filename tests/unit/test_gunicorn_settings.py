"""Which address `webhooks run` binds, by the settings and by what a platform says."""

from __future__ import annotations

import pytest

from webhooks.http.gunicorn.settings import where_to_bind


@pytest.mark.parametrize(
    ("host", "port", "platform_port", "bound"),
    [
        ("", "", "", "127.0.0.1:8000"),
        ("", "", "5000", "0.0.0.0:5000"),
        ("", "81", "", "127.0.0.1:81"),
        ("", "81", "5000", "127.0.0.1:81"),
        ("10.0.0.7", "", "", "10.0.0.7:8000"),
        ("127.0.0.1", "", "5000", "127.0.0.1:5000"),
        ("0.0.0.0", "81", "5000", "0.0.0.0:81"),
        ("::", "81", "", "[::]:81"),
    ],
)
def test_settings_win_and_a_platforms_port_alone_binds_every_interface(
    host: str, port: str, platform_port: str, bound: str
) -> None:
    assert where_to_bind(host, port, platform_port) == bound

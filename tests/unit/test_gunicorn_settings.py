"""Which address `webhooks run` binds, by the settings and by what a platform says; and what gunicorn may log."""

from __future__ import annotations

import re

import pytest
from gunicorn.http import errors

from webhooks.http.gunicorn.refusals import reason_of
from webhooks.http.gunicorn.settings import access_log_format, where_to_bind


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


def test_what_gunicorn_refuses_is_told_without_what_may_be_secret() -> None:
    """A query may hold a token, and a line without a colon anything."""
    secret = "tk-5b1e7f09"
    for error, wanted in (
        (
            errors.InvalidRequestLine(f"POST /webhooks/a?token={secret}"),
            "InvalidRequestLine: Invalid HTTP request line: 'POST /webhooks/a?…",
        ),
        (errors.InvalidHeader("CONTENT-LENGTH"), "InvalidHeader: Invalid HTTP Header: 'CONTENT-LENGTH'"),
        (errors.InvalidHeader(f"Authorization Bearer {secret}"), "InvalidHeader: a line is no header"),
        (errors.InvalidHeaderName(f"X Token {secret}"), "InvalidHeaderName: a line is no header"),
        (errors.LimitRequestHeaders("too many"), "LimitRequestHeaders: too many"),
    ):
        assert reason_of(error) == wanted
        assert secret not in reason_of(error)


def test_the_access_log_has_no_query() -> None:
    assert not {"%(r)s", "%(q)s", "%(f)s"} & set(re.findall(r"%\([^)]*\)s", access_log_format))

"""A PostgreSQL URL is read once, and what it says reaches every connection, or is refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from webhooks.database.connect import connect
from webhooks.database.postgresql_url import connection_arguments, with_single_hosts
from webhooks.errors import ConfigurationError


def arguments(text: str, **ours: object) -> dict[str, object]:
    return connection_arguments(make_url(with_single_hosts(text)), options="-c jit=off", **ours)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=require", {"sslmode": "require"}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("service=hooks", {"service": "hooks"}),
        ("passfile=/etc/pgpass", {"passfile": "/etc/pgpass"}),
        ("options=-csearch_path%3Dhooks", {"options": "-csearch_path=hooks -c jit=off"}),
        ("keepalives_idle=60", {"keepalives_idle": "60"}),
        ("", {"options": "-c jit=off", "keepalives_idle": 10}),
    ],
)
def test_what_the_query_says_is_passed_on(query: str, said: dict[str, object]) -> None:
    found = arguments(f"postgresql+psycopg://u:p@h/d?{query}", keepalives_idle=10)
    assert {name: found[name] for name in said} == said
    assert (found["host"], found["user"], found["password"], found["dbname"]) == ("h", "u", "p", "d")


@pytest.mark.parametrize(
    ("text", "hosts", "ports"),
    [
        ("postgresql+psycopg://u:p@h1:5432,h2:5433/d?target_session_attrs=any", "h1,h2", "5432,5433"),
        ("postgresql+psycopg://h1,h2/d", "h1,h2", ","),
        ("postgresql+psycopg://u@/d?host=h1:1&host=h2:2", "h1,h2", "1,2"),
    ],
)
def test_several_hosts_are_read_as_libpq_writes_them(text: str, hosts: str, ports: str) -> None:
    found = arguments(text)
    assert (found["host"], found.get("port", ",")) == (hosts, ports)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("prepare_threshold=0", "sets 'prepare_threshold', which PostgreSQL's client library does not know"),
        ("ssl_mode=require", "did you mean 'sslmode'?"),
        ("application_name=x", "our processes are told apart by it"),
        ("connect_timeout=60", "a post is answered within 2.5 s"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(query: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        connect(f"postgresql://u:secret@h/d?{query}")
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert with_single_hosts(text).count("://") >= text.count("://")


def test_a_schema_comes_beside_what_the_url_says() -> None:
    database = connect("postgresql://u@h/d?options=-cwork_mem%3D8MB", schema="hooks")
    assert arguments(database.url.render_as_string())["options"] == "-cwork_mem=8MB -c search_path=hooks -c jit=off"
    database.dispose()
    with pytest.raises(ConfigurationError, match="database_schema is for PostgreSQL"):
        connect("sqlite:///x.db", schema="hooks")

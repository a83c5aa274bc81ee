"""Settings come from three layers, and every mistake in them is told at once, by its name, without a secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import ConfigurationError
from webhooks.formats import show_duration
from webhooks.settings import (
    SETTINGS,
    Secret,
    Settings,
    SourceSettings,
    hide_password,
    load_settings,
    read_duration,
    read_size,
    require_dedup_covers,
    require_sources,
)

KEY = "WEBHOOKS_SOURCES__close__SECRET"
SECRET = "do-not-show-me-4242"


def load(
    environ: Mapping[str, str] | None = None, toml: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    if toml is not None:
        Path("webhooks.toml").write_text(toml)
    return load_settings(environ or {}, overrides=overrides)


def problems(
    environ: Mapping[str, str] | None = None, toml: str | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(environ, toml, overrides)
    assert SECRET not in str(caught.value)
    return caught.value.problems


# -- layers ------------------------------------------------------------------------------------------------


def test_nothing_configured_gives_the_defaults() -> None:
    assert load() == Settings()


def test_later_layers_win_setting_by_setting() -> None:
    settings = load(
        {"WEBHOOKS_CONCURRENCY": "2", "WEBHOOKS_MAX_ATTEMPTS": "2"},
        "concurrency = 1\nmax_attempts = 1\nwaiting_room = 1",
        {"max_attempts": 3},
    )

    assert (settings.waiting_room, settings.concurrency, settings.max_attempts) == (1, 2, 3)


def test_a_source_may_be_put_together_from_all_layers() -> None:
    settings = load(
        {KEY: SECRET},
        '[sources.close]\ntolerance = "2d"\non_unparseable = "reject"\nodd = 1',
        {"sources": {"close": {"on_unparseable": "quarantine"}}},
    )

    assert settings.sources["close"] == SourceSettings(
        "close", "close", secrets=(Secret(SECRET),), tolerance=timedelta(days=2), options={"odd": 1}
    )


def test_names_are_case_insensitive_and_sources_lower_case() -> None:
    settings = load({"webhooks_sources__CLOSE__Secret": SECRET, "WebHooks_Port": "9"}, "Concurrency = 3")

    assert (settings.port, settings.concurrency, list(settings.sources)) == (9, 3, ["close"])


def test_a_setting_given_twice_in_two_spellings_is_a_mistake() -> None:
    (problem,) = problems({"WEBHOOKS_PORT": "1", "webhooks_port": "2"})

    assert problem == "webhooks_port and WEBHOOKS_PORT are the same setting; keep one of them"


@pytest.mark.parametrize("variable", ["WEBHOOKS_TEST_DATABASE_URL", "WEBHOOKS_TEST_X__Y", "WEBHOOKS_EMBEDDED", "HOME"])
def test_what_is_not_ours_is_left_alone(variable: str) -> None:
    assert load({variable: "x"}) == Settings()


def test_an_empty_variable_is_not_set() -> None:
    assert load({"WEBHOOKS_PORT": "", "WEBHOOKS_SOURCES__close__TOLERANCE": "", "DATABASE_URL": "", "PORT": ""}) == (
        Settings()
    )


@pytest.mark.parametrize(
    ("variable", "value", "setting", "expected"),
    [
        ("PORT", "99", "port", 99),
        ("LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("DATABASE_URL", "sqlite:///other.db", "database_url", "sqlite:///other.db"),
    ],
)
def test_variables_of_other_tools_are_fallbacks(variable: str, value: str, setting: str, expected: Any) -> None:
    assert getattr(load({variable: value}), setting) == expected
    ours = {"WEBHOOKS_PORT": "1", "WEBHOOKS_LOG_LEVEL": "debug", "WEBHOOKS_LOG_FORMAT": "console"}
    both = load({**ours, variable: value, "WEBHOOKS_DATABASE_URL": "sqlite:///ours.db"})
    assert getattr(both, setting) != expected


def test_settings_of_an_application_are_taken_by_prefix_or_as_a_mapping() -> None:
    settings = load(
        overrides={
            "DEBUG": True,
            "SECRET_KEY": SECRET,
            "PORT": 1,
            "WEBHOOKS": {"concurrency": 2, "waiting_room": 2, "sources": {"close": {"secret": SECRET}}},
            "WEBHOOKS_CONCURRENCY": 3,
            "WEBHOOKS_SOURCES": {"stripe": {"secret": SECRET}},
            "max_attempts": 4,
        }
    )

    assert (settings.port, settings.concurrency, settings.waiting_room, settings.max_attempts) == (8000, 3, 2, 4)
    assert list(settings.sources) == ["close", "stripe"]


def test_python_values_are_taken_as_they_are() -> None:
    settings = load(
        overrides={"timeout": timedelta(minutes=2), "handlers": ("a.b",), "strict_types": True, "lease": 40}
    )

    assert settings.timeout == timedelta(minutes=2)
    assert settings.handlers == ("a.b",)
    assert settings.lease == timedelta(seconds=40)


# -- single values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("500ms", timedelta(milliseconds=500)),
        (" 5 m ", timedelta(minutes=5)),
        ("1.5h", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(days=7)),
        ("90", timedelta(seconds=90)),
        (91, timedelta(seconds=91)),
        (0.5, timedelta(milliseconds=500)),
        (timedelta(1), timedelta(1)),
    ],
)
def test_durations_are_read(text: Any, expected: timedelta) -> None:
    assert read_duration(text) == expected


@each(
    "value",
    [
        "",
        "-1s",
        "1 year",
        "1e3",
        "٣s",
        True,
        None,
        [],
        1e300,
        float("nan"),
        float("inf"),
        10**400,
        "9" * 12 + "w",
    ],
)
def test_other_durations_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        read_duration(value)


@given(st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_a_shown_duration_is_read_back(duration: timedelta) -> None:
    assert read_duration(show_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "expected"), [("1MiB", 2**20), ("500 kB", 500_000), ("64kib", 65536), ("17", 17), (18, 18), ("1GB", 10**9)]
)
def test_sizes_are_read(text: Any, expected: int) -> None:
    assert read_size(text) == expected


@pytest.mark.parametrize("value", ["", "-1", "1.5MiB", "1TB", "MiB", True, None, 1.0, "9" * 5000])
def test_other_sizes_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        read_size(value)


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+psycopg://u:p@h/d?sslmode=require"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        (" sqlite:////var/lib/webhooks.db\n", "sqlite:////var/lib/webhooks.db"),
    ],
)
def test_a_database_url_names_our_driver(given_url: str, expected: str) -> None:
    settings = load({"DATABASE_URL": given_url})

    assert settings.database_url == expected
    assert not settings.has_default_database


def test_without_a_database_url_the_database_is_the_default_one() -> None:
    assert load().has_default_database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@ss/w:rd@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=p&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("sqlite:///webhooks.db", "sqlite:///webhooks.db"),
    ],
)
def test_a_shown_database_url_has_no_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_settings_show_no_secret() -> None:
    settings = load(
        {"DATABASE_URL": f"postgres://u:{SECRET}@h/d", KEY: SECRET, "WEBHOOKS_SOURCES__close__VERIFY_TOKEN": SECRET}
    )

    assert SECRET not in repr(settings)
    assert SECRET not in repr(settings.sources)
    assert SECRET not in str(settings.sources["close"].secrets[0])


def test_lists_come_from_commas_json_and_toml() -> None:
    assert load({"WEBHOOKS_HANDLERS": "a.b, c"}).handlers == ("a.b", "c")
    assert load({"WEBHOOKS_HANDLERS": '["a.b", "c"]'}).handlers == ("a.b", "c")
    assert load(toml='handlers = ["a.b", "c"]').handlers == ("a.b", "c")


@each(
    ("variable", "value", "problem"),
    [
        ("PORT", "many", "is 'many': expected a whole number from 0 to 65535"),
        ("PORT", "70000", "is '70000': expected a whole number from 0 to 65535"),
        ("PORT", "1_0", "expected a whole number"),
        ("CONCURRENCY", "0", "expected a whole number from 1 to 1000"),
        ("CONCURRENCY", "9" * 5000, "expected a whole number from 1 to 1000"),
        ("STRICT_TYPES", "maybe", "is 'maybe': expected true or false"),
        ("LEASE", "soon", "is 'soon': expected a duration such as '30s'"),
        ("LEASE", "2h", "expected a duration from 100ms to 1h"),
        ("MAX_BODY", "1.5MiB", "expected a size such as '1MiB'"),
        ("MAX_BODY", "0", "expected 1 to 1073741824 bytes"),
        ("WORKER_CLASS", "uvicorn", "expected 'gevent', 'gthread' or 'sync'"),
        ("URL_PREFIX", "hooks", "expected a path such as '/webhooks', without a slash at its end"),
        ("URL_PREFIX", "/", "expected a path such as"),
        ("URL_PREFIX", "/<x>", "expected a path such as"),
        ("HANDLERS", "handlers/my-hooks.py", "expected modules as they are imported, such as 'handlers.my_hooks'"),
        ("HANDLERS", "[1", "expected a list of names"),
        ("HANDLERS_DIR", " ", "expected text"),
        ("DATABASE_URL", "mysql://h/d", "expected sqlite:///webhooks.db or postgresql://"),
        ("DATABASE_URL", "webhooks.db", "expected sqlite:///webhooks.db or postgresql://"),
        ("SOURCES__close__TOLERANCE", "long", "is 'long': expected a duration"),
        ("SOURCES__close__ON_UNPARSEABLE", "drop", "is 'drop': expected 'quarantine' or 'reject'"),
        ("SOURCES__close__ACCEPT_UNSIGNED_BODY", "ok", "is 'ok': expected true or false"),
        ("SOURCES__close__PUBLIC_URL", "example.com", "expected the address that the sender calls"),
        ("SOURCES__cl.ose__SECRET", "x", "a source's name has a-z, 0-9, _ and -"),
        ("SOURCES__close", "x", "names no setting of a source; write WEBHOOKS_SOURCES__close__SECRET"),
        ("SOURCES", "x", "names no setting of a source; write WEBHOOKS_SOURCES__close__SECRET"),
        ("MAX_ATTEMTPS", "1", "there is no such setting (did you mean 'max_attempts'?)"),
        ("PORT__X", "1", "there is no such setting"),
        ("SOURCES_close_SECRET", "x", "did you mean WEBHOOKS_SOURCES__close__SECRET, with two underscores?"),
        ("SOURCE__close__SECRET_FILE", "x", "did you mean WEBHOOKS_SOURCES__close__SECRET_FILE, with two underscores?"),
        ("SOURCES_my_crm_SECRET", "x", "did you mean WEBHOOKS_SOURCES__my_crm__SECRET, with two underscores?"),
        ("FROBNICATE", "1", "there is no such setting (the list is in docs/settings.md)"),
        ("", "1", "there is no such setting"),
    ],
)
def test_a_wrong_value_is_told_by_its_name_and_with_what_is_expected(variable: str, value: str, problem: str) -> None:
    found = problems({"WEBHOOKS_SOURCES__close__SECRET": "s", f"WEBHOOKS_{variable}": value})

    (one,) = [each for each in found if problem in each]
    assert one.startswith(f"WEBHOOKS_{variable}")


def test_a_mistake_in_the_file_names_the_file() -> None:
    assert problems(toml='lease = "soon"\n[sources.x]\nsecret = "s"\ntolerance = []') == (
        "lease in webhooks.toml is 'soon': expected a duration such as '30s', '5m', '6h' or '2d'",
        "sources.x.tolerance in webhooks.toml is []: expected a duration such as '30s', '5m', '6h' or '2d'",
    )


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        {"WEBHOOKS_PORT": "x", "WEBHOOKS_PROT": "1", "WEBHOOKS_SOURCES__a__SECRET": ""},
        'worker_class = "x"\nretry_base = "7h"\n[sources.b]',
        {"WEBHOOKS_GRACE": object()},
    )

    assert len(found) == 7, found
    assert "app.config['WEBHOOKS_GRACE'] is of type object: expected a duration" in "\n".join(found)


@pytest.mark.parametrize("content", [b"[sources", b"\xff\xfe", b"a = " + b"[" * 5000, b"a = " + b"1" * 5000, b"\0"])
def test_a_file_that_is_not_toml_is_one_mistake(content: bytes) -> None:
    Path("webhooks.toml").write_bytes(content)

    (problem,) = problems()

    assert problem.startswith("webhooks.toml ")


def test_a_file_that_cannot_be_read_is_one_mistake() -> None:
    Path("webhooks.toml").mkdir()

    assert problems() == ("webhooks.toml cannot be read: Is a directory; correct it, or take it away",)


# -- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("one", [Secret("one", "1")]),
        ("  one\n", [Secret("one", "1")]),
        ("1e10", [Secret("1e10", "1")]),
        ('["one", "two"]', [Secret("one", "1"), Secret("two", "2")]),
        ('{"old": "one", "new": "two"}', [Secret("one", "old"), Secret("two", "new")]),
    ],
)
def test_secrets_come_as_text_list_or_labels(raw: str, expected: list[Secret]) -> None:
    assert list(load({KEY: raw}).sources["close"].secrets) == expected


def test_secrets_have_labels_in_the_environment_too() -> None:
    settings = load({f"{KEY}__whsub_Ab": "one", f"{KEY}__whsub_a__b": "two"})

    assert set(settings.sources["close"].secrets) == {Secret("one", "whsub_Ab"), Secret("two", "whsub_a__b")}


def test_secrets_come_from_toml_and_from_functions() -> None:
    settings = load(
        toml='[sources.a.secret]\nold = "one"\nnew = "two"\n[sources.b]\nsecrets = ["one"]',
        overrides={"sources": {"c": {"secret": lambda: ["one", "two"]}}},
    )

    assert settings.sources["a"].secrets == (Secret("one", "old"), Secret("two", "new"))
    assert settings.sources["b"].secrets == (Secret("one"),)
    assert settings.sources["c"].secrets == (Secret("one", "1"), Secret("two", "2"))


def test_a_secret_file_is_only_named_here() -> None:
    """Its content is the key ring's, which reads it again when it changed."""
    settings = load({f"{KEY}_FILE": "/run/secrets/close"})

    assert settings.sources["close"].secret_file == Path("/run/secrets/close")
    assert settings.sources["close"].secrets == ()
    assert settings.sources["close"].options == {}


def fail() -> str:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("", "it is blank; give its value, or take it away"),
        (" \t", "it is blank"),
        (f'["{SECRET}", " "]', "secret '2' is blank"),
        (f'["{SECRET}"', "begins like JSON and is none"),
        (f'["{SECRET}", 5]', "expected one secret, a list of them, or a table"),
        ("[]", "it is empty"),
        ("{}", "it is empty"),
        (5, "expected one secret"),
        (None, "expected one secret"),
        (f"{SECRET}\ud800", "is not UTF-8 text"),
        (fail, "the function given for it raised RuntimeError"),
    ],
)
def test_a_secret_that_is_none_is_a_mistake_that_does_not_show_it(raw: Any, problem: str) -> None:
    (found,) = problems(overrides={"sources": {"close": {"secret": raw}}})

    assert found.startswith("sources.close.secret in setting sources: ") or found.startswith("setting sources")
    assert problem in found


def test_a_source_without_a_secret_is_a_mistake() -> None:
    assert problems(toml="[sources.close]\n[sources.x]\nscheme = 'stripe'") == (
        "source 'close' has no secret; set WEBHOOKS_SOURCES__close__SECRET, or secret (or secret_file) in "
        "[sources.close]",
        "source 'x' has no secret; set WEBHOOKS_SOURCES__x__SECRET, or secret (or secret_file) in [sources.x]",
    )


@pytest.mark.parametrize(("key", "meant"), [("secrt", "secret"), ("Secret_Fil", "secret_file"), ("sekret", "secret")])
def test_a_misspelled_secret_is_not_only_a_missing_one(key: str, meant: str) -> None:
    (found,) = problems(overrides={"sources": {"close": {key: "x" * 64}}})

    assert found.startswith(f"source 'close' has no secret but {key.lower()!r} (did you mean {meant!r}?); set ")


@pytest.mark.parametrize("variable", ["DATABASE_URL_FILE", "WEBHOOKS_DATABASE_URL_FILE"])
def test_a_database_url_may_come_from_a_file(variable: str) -> None:
    Path("url").write_text(f"postgres://u:{SECRET}@h/d\n")

    settings = load({variable: "url"})

    assert settings.database_url == f"postgresql+psycopg://u:{SECRET}@h/d"
    assert not settings.has_default_database


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "DATABASE_URL_FILE: the file 'url' cannot be read: No such file or directory"),
        (b"\xff", "DATABASE_URL_FILE: the file 'url' is not UTF-8 text"),
        (SECRET.encode(), "DATABASE_URL_FILE: expected sqlite:///webhooks.db or postgresql://user:password@host/name"),
    ],
)
def test_a_database_url_file_that_cannot_be_used_is_a_mistake(content: bytes | None, problem: str) -> None:
    if content is not None:
        Path("url").write_bytes(content)

    assert problems({"DATABASE_URL_FILE": "url"}) == (problem,)


def test_a_url_and_a_file_with_it_in_one_layer_are_a_mistake() -> None:
    Path("url").write_text("sqlite:///a.db")

    assert (
        "are the same setting"
        in problems({"WEBHOOKS_DATABASE_URL": "sqlite:///a.db", "WEBHOOKS_DATABASE_URL_FILE": "url"})[0]
    )


def test_only_secrets_come_from_files() -> None:
    assert "there is no such setting" in problems({"WEBHOOKS_PORT_FILE": "port"})[0]


# -- across settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"WEBHOOKS_PAYLOAD_RETENTION": "31d"}, "set dedup_retention to at least 36d"),
        ({"WEBHOOKS_HEARTBEAT": "16s"}, "set heartbeat to at most 15s"),
        ({"WEBHOOKS_RETRY_BASE": "7h"}, "retry_base is 7h, above retry_cap 6h"),
        ({"WEBHOOKS_METRICS": "true"}, "metrics is true and there is no metrics_token"),
        ({"WEBHOOKS_METRICS_PORT": "0", "WEBHOOKS_METRICS_HOST": "0.0.0.0"}, "other machines could read the metrics"),
        (
            {KEY: "s", "WEBHOOKS_SOURCES__close__TOLERANCE": "35d"},
            "source 'close': signatures are taken for 35d, not shorter",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environ: dict[str, str], problem: str) -> None:
    (found,) = problems(environ)

    assert problem in found


def test_the_limits_themselves_are_taken() -> None:
    load({"WEBHOOKS_PAYLOAD_RETENTION": "30d", "WEBHOOKS_DEDUP_RETENTION": "35d"})
    load({"WEBHOOKS_HEARTBEAT": "15s", "WEBHOOKS_RETRY_BASE": "6h"})
    load({"WEBHOOKS_METRICS_PORT": "0"})
    load({"WEBHOOKS_METRICS_TOKEN": "0123456789abcdef", "WEBHOOKS_METRICS": "1", "WEBHOOKS_METRICS_HOST": "0.0.0.0"})
    load({KEY: "s", "WEBHOOKS_SOURCES__close__TOLERANCE": "34d"})


@pytest.mark.parametrize("token", ["short", "with spaces 0123456789", "é" * 20])
def test_a_token_that_a_header_cannot_carry_or_that_is_guessed_is_refused(token: str) -> None:
    (found,) = problems({"WEBHOOKS_METRICS": "true", "WEBHOOKS_METRICS_TOKEN": token})
    assert "WEBHOOKS_METRICS_TOKEN: expected 16 to 256 letters" in found
    assert token not in found


def test_a_value_that_could_not_be_read_contradicts_nothing() -> None:
    assert len(problems({"WEBHOOKS_LEASE": "x", "WEBHOOKS_HEARTBEAT": "20s"})) == 1


def test_a_schemes_own_tolerance_is_held_to_the_same_rule() -> None:
    require_dedup_covers(Settings(), {"close": timedelta(days=30)})
    with pytest.raises(ConfigurationError, match="source 'close': signatures are taken for 36d"):
        require_dedup_covers(Settings(), {"close": timedelta(days=36)})


def test_no_source_at_all_says_the_line_to_add() -> None:
    with pytest.raises(ConfigurationError, match="set WEBHOOKS_SOURCES__close__SECRET to the signature key"):
        require_sources(load())

    require_sources(load({KEY: "s"}))


# -- anything ----------------------------------------------------------------------------------------------

_NAMES = st.one_of(
    st.sampled_from([setting.name.upper() for setting in SETTINGS]),
    st.sampled_from(["SOURCES__a__SECRET", "SOURCES__a__TOLERANCE", "SOURCES__a__OWN", "DATABASE_URL_FILE"]),
    st.text(max_size=20),
)
_VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["0", "-1", "1e999", "nan", "[", "[[]]", '{"a": 1}', "\0", "\ud800", "99999999999999999999d"]),
)


@given(st.dictionaries(_NAMES.map("WEBHOOKS_".__add__), _VALUES, max_size=5))
def test_no_environment_raises_anything_but_a_configuration_error(environ: dict[str, str]) -> None:
    try:
        settings = load_settings(environ, file=None)
    except ConfigurationError as error:
        caught: ConfigurationError | None = error
    else:
        caught = None
        assert repr(settings)
    assert caught is None or all(len(problem) < 1000 for problem in caught.problems)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted(s.name for s in SETTINGS)), st.text(max_size=8)), _JSON, max_size=4
    )
)
def test_no_value_of_an_application_raises_anything_but_a_configuration_error(overrides: dict[str, Any]) -> None:
    try:
        load_settings({}, file=None, overrides=overrides)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017 - either outcome is right, another exception is not


@given(st.binary(max_size=60))
def test_no_file_raises_anything_but_a_configuration_error(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        load_settings({}, file=path)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017


def test_every_setting_is_described() -> None:
    for setting in SETTINGS:
        assert setting.text
        assert setting.variable.startswith("WEBHOOKS_")
        if setting.default:
            Path("webhooks.toml").write_text(f"{setting.name} = {setting.default}\n")
            assert getattr(load(), setting.name) == getattr(Settings(), setting.name)


# -- alarms ----------------------------------------------------------------------------------------------------


def test_a_target_is_read_from_a_file_and_from_the_environment() -> None:
    toml = '[alarms.ops]\nkind = "email"\nsmtp_host = "mail"\nsender = "a@b.example"\nto = ["c@d.example"]\n'
    settings = load({"WEBHOOKS_ALARMS__OPS__SEVERITY": "critical", "WEBHOOKS_ALARMS__page__KIND": "command",
                     "WEBHOOKS_ALARMS__page__COMMAND": "/bin/page ops"}, toml)  # fmt: skip
    assert settings.alarms["ops"].severity == "critical"
    assert (settings.alarms["ops"].to, settings.alarms["ops"].smtp_port) == (("c@d.example",), 587)
    assert settings.alarms["page"].command == ("/bin/page", "ops")


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ('[alarms.ops]\nkind = "slak"', "alarms.ops.kind in webhooks.toml is 'slak': expected 'slack', 'webhook'"),
        ("[alarms.ops]", "it has no kind; expected slack, webhook, email, command"),
        ('[alarms.ops]\nkind = "slack"', "a target of kind slack needs url_file"),
        ('[alarms.ops]\nkind = "webhook"', "a target of kind webhook needs url_file and secret_file"),
        ('[alarms.ops]\nkind = "slack"\nurl_fil = "x"', "did you mean 'url_file'?"),
        (f'[alarms.ops]\nkind = "slack"\nurl_file = "https://hooks.example/{SECRET}"', "expected the path of a file"),
        ("alarms = 3", "expected a section for each target, such as [alarms.ops]"),
        ("[alarms]\nops = 3", 'expected a section, such as [alarms.ops] with kind = "slack" below it'),
        ("alarm_after = 3", "expected a table of alarms and durations"),
        ('[alarm_after]\ndead = "soon"', "expected a duration"),
    ],
)
def test_a_mistake_in_alarms_is_told_with_its_key(toml: str, text: str) -> None:
    assert any(text in problem for problem in problems({}, toml))


def test_a_variable_that_names_no_key_of_a_target_says_how() -> None:
    (problem,) = problems({"WEBHOOKS_ALARMS__ops": "x"})
    assert "write WEBHOOKS_ALARMS__ops__KIND" in problem


def test_times_of_alarms_are_a_table() -> None:
    settings = load({}, 'heartbeat_url = "https://hc.example/x"\n[alarm_after]\nno-worker = "10m"\n')
    assert settings.alarm_after == {"no-worker": timedelta(minutes=10)}
    assert "hc.example" not in repr(settings)
    by_json = load({"WEBHOOKS_ALARM_AFTER": '{"dead": "5s"}'}, "")
    assert by_json.alarm_after == {"dead": timedelta(seconds=5)}


# -- queues ----------------------------------------------------------------------------------------------------


def test_queues_are_a_table_in_the_order_of_its_lines() -> None:
    settings = load({}, '[queues]\n"video.mail" = "mail"\n"video.*" = "video"\n')
    assert list(settings.queues.items()) == [("video.mail", "mail"), ("video.*", "video")]
    by_json = load({"WEBHOOKS_QUEUES": '{"*": "all"}', "WEBHOOKS_WORKER_QUEUES": "video, default"})
    assert (by_json.queues, by_json.worker_queues) == ({"*": "all"}, ("video", "default"))


@each(
    ("toml", "text"),
    [
        ("queues = 3", "expected a table of handlers' names and queues"),
        ('[queues]\nvideo.cut = "video"', "a name with dots has to stand in quotes"),
        ('[queues]\n"video.?" = "video"', "expected a handler's name in quotes"),
        ('[queues]\n"video.*" = "Video"', "expected the name of a queue: a-z, 0-9, _ and -, at most 40"),
        ('worker_queues = ["Video"]', "expected the name of a queue"),
    ],
)
def test_a_mistake_in_queues_says_what_was_expected(toml: str, text: str) -> None:
    assert text in "\n".join(problems({}, toml))

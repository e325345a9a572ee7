"""There is one way to write an entry, and anything else is told from it."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.ledger.entries import MAX_INTEGER, canonical, parse, time_of, time_text, units_of

keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
objects = st.dictionaries(keys, values, max_size=6)


@settings(max_examples=50)
@given(objects)
def test_what_is_written_is_read_back(fields: dict[str, object]) -> None:
    assert parse(canonical(fields)) == fields  # type: ignore[arg-type]


@settings(max_examples=50)
@given(objects)
def test_the_order_of_keys_makes_no_difference(fields: dict[str, object]) -> None:
    turned = dict(reversed(fields.items()))
    assert canonical(turned) == canonical(fields)  # type: ignore[arg-type]


def test_it_is_written_as_rfc_8785_has_it() -> None:
    fields = {"b": [1, None, True], "a": 'é"\\/\n\x0f\x7f€😂', "C": {"z": -1, "y": ""}}
    assert canonical(fields).decode() == (
        '{"C":{"y":"","z":-1},"a":"é\\"\\\\/\\n\\u000f\x7f€😂","b":[1,null,true]}'
    )


@settings(max_examples=50)
@given(objects)
def test_another_spelling_is_refused(fields: dict[str, object]) -> None:
    text = canonical(fields)  # type: ignore[arg-type]
    for other in (text + b" ", b" " + text, json.dumps({"a": fields}, indent=1).encode()):
        with pytest.raises(ValueError):
            parse(other)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
    ],
)
def test_what_is_not_canonical_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse(text)


@given(st.binary(max_size=30))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert canonical(parse(text)) == text


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_read_back(moment: datetime) -> None:
    assert time_of(time_text(moment)) == moment
    assert len(time_text(moment)) == 27


@pytest.mark.parametrize(
    "moment",
    [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))],
)
def test_times_are_in_utc(moment: datetime) -> None:
    with pytest.raises(ValueError, match="UTC"):
        time_text(moment)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-15",
        "2026-01-15T12:00:00Z",
        "2026-01-15T12:00:00.000000",
        "2026-01-15T12:00:00.000000+00:00",
        "2026-01-15 12:00:00.000000Z",
        "2026-13-15T12:00:00.000000Z",
        "2026-01-15T12:00:00.000000Z\n",
        "２026-01-15T12:00:00.000000Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        time_of(text)


@pytest.mark.parametrize("text", ["", "-1", "01", "1.0", " 1", "1e3", "٣", "9" * 32])
def test_units_are_plain_digits(text: str) -> None:
    assert units_of("0") == 0
    assert units_of("12") == 12
    with pytest.raises(ValueError):
        units_of(text)

"""Forms of an answer: which one a request gets, and that each says what was released, in full."""

import csv
import io
import json
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from dpanalytics.api.answers import (
    LONGEST_ACCEPT,
    OFFERED,
    Form,
    Rounding,
    choose_form,
    media_ranges,
    represented,
)
from dpanalytics.errors import NotAcceptable

ALL = OFFERED[Rounding.NONE]
TABLES = OFFERED[Rounding.HESA]


# Which form


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Form.JSON),
        ("", Form.JSON),
        (" , ,", Form.JSON),
        ("*/*", Form.JSON),
        ("application/*", Form.JSON),
        ("text/*", Form.CSV),
        ("text/csv", Form.CSV),
        ("TEXT/CSV", Form.CSV),
        ("application/vnd.apache.parquet", Form.PARQUET),
        ("application/vnd.apache.arrow.stream", Form.ARROW),
        ("text/csv;q=0.5, application/json;q=0.4", Form.CSV),
        ("text/csv;q=0.5, application/json;q=0.5", Form.JSON),
        ("application/json;q=0, */*", Form.CSV),
        ("*/*;q=0.1, application/vnd.apache.arrow.stream", Form.ARROW),
        ("application/*;q=0.9, application/json;q=0.1", Form.PARQUET),
        ("text/csv; charset=UTF-8", Form.CSV),
        ('text/csv;header="present";q=0.3, image/png', Form.CSV),
        ("application/json; charset=utf-8", Form.JSON),
        ("text/csv;header=absent;q=1, application/json;q=0.1", Form.JSON),
        ("text/csv;header=present;q=0.1, text/csv;q=0.9, application/json;q=0.5", Form.JSON),
        ('text/html;x="a,b;q=1", text/csv', Form.CSV),
        ("text/csv;q=0.5;ext=1, application/json;q=0.2", Form.CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", Form.JSON),
        ("nonsense, text/csv", Form.CSV),
        ("text/csv ; q=0.7", Form.CSV),
    ],
)
def test_the_form_liked_best_is_chosen(accept: str | None, form: Form) -> None:
    assert choose_form(accept, offered=ALL) is form


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "*/*;q=0",
        "application/json;q=0",
        "application/json;version=2",
        "text/csv;header=absent",
        "nonsense",
        "*/csv",
        "text/csv;q=1.5",
        "text/csv;q=",
        "text/csv;q=0.1234",
        "text/csv;q=-1",
        "text csv",
        "text/csv/x",
    ],
)
def test_what_takes_none_of_the_forms_is_told_which_there_are(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="allowed: application/json, text/csv"):
        choose_form(accept, offered=ALL)


def test_rounded_figures_have_no_json_and_it_is_said_why() -> None:
    assert choose_form("*/*", offered=TABLES) is Form.CSV
    with pytest.raises(NotAcceptable, match="JSON is the recorded answer, and not rounded"):
        choose_form("application/json", offered=TABLES)


def test_a_header_without_end_is_not_read() -> None:
    with pytest.raises(NotAcceptable, match=f"at most {LONGEST_ACCEPT}"):
        choose_form('"\\' * 40_000, offered=ALL)


@given(st.text(max_size=60) | st.text('*/;,="\\q.01 acpst-', max_size=60))
@example('a/b;x="')
@example('a/b;x="\\')
def test_whatever_the_header_says_a_form_is_chosen_or_refused(accept: str) -> None:
    try:
        assert choose_form(accept, offered=ALL) in ALL
    except NotAcceptable:
        assert accept.strip(" \t,")


RANGES = ("*/*", "application/*", "text/*", "image/png", *(form.value for form in ALL))


@given(
    st.lists(
        st.tuples(st.sampled_from(RANGES), st.integers(0, 1000)),
        min_size=1,
        max_size=6,
        unique_by=lambda pair: pair[0],
    )
)
def test_weights_decide_as_they_do_elsewhere(wanted: list[tuple[str, int]]) -> None:
    accept = ", ".join(f"{name};q={weight / 1000:.3f}" for name, weight in wanted)
    parsed = parse_accept_header(accept, MIMEAccept)
    weights = {form: parsed.quality(form.value) for form in ALL}
    best = max(weights.values())
    if best == 0:
        with pytest.raises(NotAcceptable):
            choose_form(accept, offered=ALL)
    else:
        assert choose_form(accept, offered=ALL) is next(f for f in ALL if weights[f] == best)


@given(st.permutations(["text/csv;q=0.4", "application/json;q=0.3", "*/*;q=0.2", "image/gif"]))
def test_the_order_of_ranges_says_nothing(ranges: list[str]) -> None:
    assert choose_form(",".join(ranges), offered=ALL) is Form.CSV


TOKEN = st.text("abcxyz019!#$%&'*+.^_`|~-", min_size=1, max_size=8)


@given(kind=TOKEN, subtype=TOKEN, name=TOKEN, value=st.text(max_size=10), weight=st.integers(0, 9))
def test_a_range_is_read_as_it_was_written(
    kind: str, subtype: str, name: str, value: str, weight: int
) -> None:
    if (kind == "*" and subtype != "*") or name == "q":
        return
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    (found,) = media_ranges(f'{kind}/{subtype} ; {name}="{quoted}"; q=0.{weight}')
    assert (found.type, found.subtype) == (kind, subtype)
    assert found.parameters == {name: value}
    assert found.thousandths == weight * 100


# What the forms hold


def row(module: str, metric: str, estimate: float, **more: Any) -> dict[str, Any]:
    return {
        "group": {"module": module},
        "metric": metric,
        "item": None,
        "unit": "students",
        "estimate": estimate,
        "margin": 4,
        "low": estimate - 4,
        "high": estimate + 4,
        "swamped": False,
        "students": None,
    } | more


CONTENT: dict[str, Any] = {
    "format": "dpanalytics/release/v1",
    "question": {"snapshots": ["enrolments@2012/13#1-ab", "enrolments@2013/14#4-cd"]},
    "digest": "ab" * 32,
    "title": "Enrolments – all",
    "population": "students who agreed to the combining of sources",
    "confidence": 0.95,
    "rho_units": "123456789",
    "dimensions": ["module"],
    "notes": ["One.", "Two."],
    "rows": [
        row("AAA", "students", 101),
        row("=1+1", "students", -3, swamped=True),
        row('a "b", c', "mean(score)", 61.25, unit="points", students=101, margin=1.5),
    ],
}
BODY = json.dumps(CONTENT, sort_keys=True, ensure_ascii=False).encode()


def read(form: Form, rounding: Rounding = Rounding.NONE) -> tuple[pl.DataFrame, dict[str, str]]:
    """A table as somebody else's reader has it, and what it carries besides."""
    content = represented(BODY, form=form, rounding=rounding).content
    if form is Form.PARQUET:
        table = pq.read_table(io.BytesIO(content))
    else:
        with pa.ipc.open_stream(content) as stream:
            table = stream.read_all()
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame, metadata


@pytest.mark.parametrize("form", [Form.PARQUET, Form.ARROW])
def test_tables_hold_every_figure_with_its_margin_as_a_number(form: Form) -> None:
    frame, _ = read(form)
    assert frame.columns == [
        *("module", "metric", "item", "unit", "estimate", "margin", "low", "high", "swamped")
    ]
    assert frame["module"].to_list() == ["AAA", "=1+1", 'a "b", c']
    assert frame["estimate"].to_list() == [101, -3, 61.25]
    assert frame["margin"].to_list() == [4, 4, 1.5]
    assert frame.schema["estimate"] == pl.Float64


@pytest.mark.parametrize("form", [Form.PARQUET, Form.ARROW])
def test_tables_carry_what_they_must_be_read_with(form: Form) -> None:
    _, told = read(form)
    assert told == {
        "dpanalytics.format": "dpanalytics/release/v1",
        "dpanalytics.digest": CONTENT["digest"],
        "dpanalytics.snapshots": "enrolments@2012/13#1-ab,enrolments@2013/14#4-cd",
        "dpanalytics.title": "Enrolments – all",
        "dpanalytics.population": CONTENT["population"],
        "dpanalytics.coverage": "",
        "dpanalytics.confidence": "0.95",
        "dpanalytics.rho_units": "123456789",
        "dpanalytics.rounding": "none",
        "dpanalytics.notes": "One.\nTwo.",
    }


def test_csv_is_that_of_the_rfc_and_starts_no_formula() -> None:
    table = represented(BODY, form=Form.CSV, rounding=Rounding.NONE)
    assert table.snapshots == tuple(CONTENT["question"]["snapshots"])
    text = table.content.decode("utf-8")
    assert text.endswith("\r\n")
    assert text.count("\n") == text.count("\r\n") == 4
    head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert head[:4] == ["module", "metric", "item", "unit"]
    assert head.index("margin") == head.index("estimate") + 1
    assert [line[0] for line in lines] == ["AAA", "'=1+1", 'a "b", c']
    # A number below zero stays one; text that looks like a formula does not.
    assert [float(line[4]) for line in lines] == [101, -3, 61.25]


@pytest.mark.parametrize("form", [Form.PARQUET, Form.ARROW])
def test_rounded_tables_say_so_and_have_totals(form: Form) -> None:
    frame, told = read(form, Rounding.HESA)
    assert told["dpanalytics.rounding"] == "hesa"
    assert frame["estimate"].to_list() == ["100", "0", "61.25", "100"]
    assert frame["module"].to_list()[-1] == "Total of the rows"


def test_rounded_csv_keeps_numbers_below_zero() -> None:
    body = json.dumps(CONTENT | {"rows": [row("AAA", "sum(score)", -1234)]}).encode()
    text = represented(body, form=Form.CSV, rounding=Rounding.HESA).content.decode()
    assert "AAA,sum(score),,students,-1235,4,-1245,-1225,false\r\n" in text


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("form", TABLES)
def test_an_answer_has_one_spelling_in_each_form(form: Form, rounding: Rounding) -> None:
    once, again = (represented(BODY, form=form, rounding=rounding) for _ in range(2))
    assert once == again


def test_the_json_is_never_made_anew() -> None:
    with pytest.raises(ValueError, match="recorded answer itself"):
        represented(BODY, form=Form.JSON, rounding=Rounding.NONE)


def test_media_types_say_how_text_is_written() -> None:
    assert Form.CSV.content_type == "text/csv; charset=utf-8; header=present"
    assert Form.JSON.content_type == "application/json"

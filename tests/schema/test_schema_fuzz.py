"""No text, whatever it is, yields anything but a checked declaration or a DeclarationError."""

import contextlib

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.budget import Caps, Consumer
from dpanalytics.schema.declared import parse_declaration
from dpanalytics.schema.source import Source
from dpanalytics.schema.sqlcheck import check_view
from dpanalytics.schema.view import View

from .small_sources import SOURCES, view_of
from .test_sqlcheck import OUT, REFUSED

MODELS = (Source, View, Consumer, Caps)

PIECES = tuple(
    """
    SELECT FROM WHERE GROUP BY HAVING WITH AS ( ) , . * = < > + - / % | ' " ; -- /* */ \\
    student people events pages n note colour page illness SUM COUNT OVER PARTITION JOIN LEFT ON
    AND OR NOT NULL IS IN LIKE BETWEEN CASE WHEN THEN ELSE END CAST BIGINT DATE DISTINCT UNION
    EXISTS LATERAL UNNEST ROLLUP ORDER LIMIT FILTER EXTRACT INTERVAL VALUES ARRAY STRUCT :: [ ]
    { } ? : $1 @x 0x1 1e9 1 2.5 'a' TRUE q x d w academic_year PIVOT MATCH_RECOGNIZE CREATE
    """.split()  # noqa: SIM905
)

texts_of_pieces = st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)


@st.composite
def mutated(draw):
    """A query from the tests with a stretch replaced by something else."""
    text = draw(st.sampled_from([sql.replace("{out}", OUT) for sql in REFUSED]))[:2000]
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 30)))
    return text[:start] + draw(st.one_of(texts_of_pieces, st.text(max_size=8))) + text[end:]


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=200), texts_of_pieces, mutated()))
@example("(" * 5000)
@example("SELECT " + "NOT " * 3000 + "n FROM people")
@example("SELECT " + "CASE WHEN n THEN " * 500)
@example("SELECT student FROM people WHERE " + " OR ".join(["n = 1"] * 1500))
@example("\x00")
@example("SELECT '\ud800'")
def test_any_sql_is_checked_or_refused(sql):
    with contextlib.suppress(DeclarationError):
        assert check_view(view_of("").model_copy(update={"sql": sql}), SOURCES).sql


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.sampled_from(["a", "2013/14", "student", "1e999999999", "fees", "marking", "NaN", ""])
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

GOOD = {
    Source: next(iter(SOURCES.values())).model_dump(mode="json"),
    View: view_of(f"SELECT student, {OUT}, n AS x FROM people").model_dump(mode="json"),
    Consumer: {
        "consumer": "a",
        "title": "",
        "purposes": ["quality-review"],
        "grants": [
            {
                "view": "small",
                "academic_year": "2013/14",
                "epsilon": 1,
                "delta": 1e-7,
                "valid_until": "2027-01-01",
                "approved_by": "a",
            }
        ],
    },
    Caps: {
        "caps": [
            {
                "academic_year": "2013/14",
                "epsilon": 1,
                "delta": 1e-7,
                "valid_until": "2027-01-01",
                "owner": "a",
                "approved_by": "a",
            }
        ]
    },
}


@st.composite
def spoilt(draw):
    """A good declaration with one value, anywhere in it, replaced."""
    model = draw(st.sampled_from(MODELS))
    whole = yaml.safe_load(yaml.safe_dump(GOOD[model]))
    place = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key]) or draw(st.booleans()):
            break
        place = place[key]
    place[key] = draw(plain)
    return model, yaml.safe_dump(whole, allow_unicode=True).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("model", MODELS)
def test_the_good_declarations_are_good(model):
    parse_declaration(yaml.safe_dump(GOOD[model]).encode(), model, "good.yaml")


@pytest.mark.slow
@settings(max_examples=300)
@given(spoilt())
def test_a_spoilt_declaration_is_read_or_refused(case):
    model, content = case
    with contextlib.suppress(DeclarationError):
        assert isinstance(parse_declaration(content, model, "file.yaml"), model)


@settings(max_examples=300)
@given(st.sampled_from(MODELS), st.one_of(st.binary(max_size=100), st.text().map(str.encode)))
@example(View, b"a: &a [*a]")
@example(View, b"[" * 3000)
@example(View, b"{" * 3000)
@example(View, b"? [1]\n: 2")
@example(View, b"a: !!python/object:os.system x")
@example(View, b"a: 2013-99-99")
@example(View, b"<<: {a: 1}")
@example(View, b"<<: [1, 2]")
@example(View, b"a: 1:2:3:99999999999999999999")
@example(View, b"a: " + b"9" * 5000)
@example(Caps, b"\xff\xfe")
def test_any_bytes_are_refused(model, content):
    with pytest.raises(DeclarationError, match=r"^file\.yaml"):
        parse_declaration(content, model, "file.yaml")

"""The gates in front of OpenDP's Polars layer: what it does without them, and that they hold.

Numbered as docs/design/0006-gates.md. Tests named `..._without_gate_...` speak to OpenDP as it
is, with the input that breaks its promise; when one of them fails after an upgrade, OpenDP has
changed and its gate may be looked at again. The others show that this package refuses that input,
or has no way of saying it.
"""

import io
import json
import logging
import pickle
import traceback
from dataclasses import fields
from typing import Any, get_args

import opendp.prelude as dp
import polars as pl
import pytest
from opendp.extras.polars import Bound
from opendp.mod import OpenDPException
from rich.console import Console
from rich.traceback import Traceback

from dpanalytics.errors import ReleaseFailed, RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.mechanism import GROUP, NoisySum, NoisySums, build
from dpanalytics.query.request import Metric, Question, parse_question
from tests.query.coded import coded
from tests.query.raw_opendp import LETTERS, count, joined, letters, numbered, raw, sums, truncated

SECRET = "Jane Roe"
COUNT_AND_SUM = sums(letters("a", "b"), NoisySum("n", None, 1.0), NoisySum("v", (0, 10), 10.0))


# --- 1: keys are for exactly the group-by columns ---------------------------------------------


def test_without_gate_1_a_unique_value_of_a_student_comes_out():
    schema = {"g": LETTERS, "note": pl.String}
    rows = pl.LazyFrame({"g": ["a"] * 3, "note": ["x", "x", SECRET]}, schema=schema)
    plan = pl.LazyFrame(schema=schema).group_by("g", "note").agg(count(1000.0))
    seen = 0
    for _ in range(20):
        measurement, rho = raw(schema, joined(letters("a", "b"), plan), by=["g", "note"])
        seen += SECRET in measurement(rows).collect()["note"].to_list()
    assert rho < 1e-6
    assert seen == 20


def test_gate_1_answers_have_the_declared_groups_and_no_others():
    mechanism = build(COUNT_AND_SUM)
    rows = pl.LazyFrame({"g": ["a"], "v": [1]}, schema={"g": LETTERS, "v": pl.Int64})
    for some in (rows, rows.clear()):
        answer = mechanism.run(coded(COUNT_AND_SUM, some))
        assert answer.columns == ["g", "n", "v"]
        assert answer["g"].to_list() == ["a", "b"]


def test_gate_1_a_column_beside_keys_and_sums_is_refused():
    more = pl.LazyFrame(schema=COUNT_AND_SUM.row_schema | {"note": pl.String()})
    with pytest.raises(RequestError):
        build(COUNT_AND_SUM).check_rows(more)


def test_gate_1_keys_of_open_text_are_refused():
    with pytest.raises(ValueError, match="Enum"):
        sums(pl.DataFrame({"g": ["a"]}))


# --- 2: no key twice --------------------------------------------------------------------------


def test_without_gate_2_copies_of_a_key_tell_whether_anybody_is_in_the_group():
    schema = {"g": LETTERS}
    rows = pl.LazyFrame({"g": ["a"]}, schema=schema)
    plan = pl.LazyFrame(schema=schema).group_by("g").agg(count(1e6))
    measurement, rho = raw(schema, joined(letters("a", "a", "b", "b"), plan), by=["g"])
    assert rho < 1e-12
    for _ in range(5):
        answer = measurement(rows).collect()
        present, absent = (answer.filter(pl.col("g") == g)["n"].n_unique() for g in "ab")
        assert (present, absent) == (1, 2)


@pytest.mark.parametrize("values", [("a", "a"), ("a", None)])
def test_gate_2_a_repeated_or_missing_key_is_refused(values):
    with pytest.raises(ValueError, match="no missing and no repeated"):
        sums(letters(*values))


# --- 3: no column is redefined ----------------------------------------------------------------


def test_without_gate_3_a_redefined_column_keeps_its_old_bound():
    schema = {"g": pl.Enum([str(n) for n in range(100)])}
    one_student = pl.LazyFrame({"g": [str(n) for n in range(100)]}, schema=schema)
    plan = pl.LazyFrame(schema=schema).with_columns(g=pl.lit("x")).group_by("g").agg(count(1.0))
    measurement, rho = raw(
        schema,
        joined(pl.DataFrame({"g": ["x"]}), plan),
        by=["g"],
        bound=Bound(by=["g"], per_group=1, num_groups=100),
    )
    # One student moves the count by 100: 100**2 / 2 is what it loses.
    assert rho == 0.5
    assert measurement(one_student).collect()["n"].item() > 80


def test_gate_3_a_stated_release_can_only_name_columns():
    assert {f.name for f in fields(NoisySums)} == {"keys", "columns", "num_groups"}
    assert {f.name for f in fields(NoisySum)} == {"name", "bounds", "scale"}
    with pytest.raises(ValueError, match="summed and grouped by"):
        sums(letters("a"), NoisySum("g", (0, 1), 1.0))


# --- 4: no plan from outside ------------------------------------------------------------------


@pytest.fixture
def foreign_plan(tmp_path) -> bytes:
    pl.DataFrame({"g": [SECRET, "other"]}).write_parquet(tmp_path / "other.parquet")
    return pl.scan_parquet(tmp_path / "other.parquet").serialize()


def test_without_gate_4_a_plan_of_keys_reads_another_file(foreign_plan):
    schema = {"g": pl.String}
    plan = pl.LazyFrame(schema=schema).group_by("g").agg(count(1000.0))
    keys = pl.LazyFrame.deserialize(io.BytesIO(foreign_plan))
    measurement, _ = raw(schema, joined(keys, plan), by=["g"])
    answer = measurement(pl.LazyFrame({"g": ["a"]})).collect()
    assert sorted(answer["g"]) == [SECRET, "other"]


def test_gate_4_keys_are_rows_and_never_a_plan(foreign_plan):
    with pytest.raises(ValueError, match="never a plan"):
        sums(pl.LazyFrame.deserialize(io.BytesIO(foreign_plan)))


def test_gate_4_a_question_has_no_place_for_a_plan(foreign_plan):
    asked: dict[str, Any] = {
        "view": "weekly",
        "academic_years": ["2013/14"],
        "purpose": "quality-review",
        "metrics": [{"metric": "students"}],
        "epsilon": 1,
    }
    assert isinstance(parse_question(asked), Question)
    for name in ("plan", "keys", "sql", "expression"):
        for value in (foreign_plan, foreign_plan.hex(), "SELECT 1"):
            with pytest.raises(RequestError):
                parse_question(asked | {name: value})
            with pytest.raises(RequestError):
                parse_question(asked | {"metrics": [{"metric": "students", name: value}]})


# --- 5: no truncation inside a question -------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 3])
def test_without_gate_5_truncation_keeps_a_group_fewer_than_it_charges(kept):
    measurement, rho, rows = truncated(kept, by_sample=False)
    answer = measurement(rows).collect()
    assert rho == pytest.approx(kept * 0.5)
    assert (answer["n"] > 500).sum() == kept - 1


def test_without_gate_5_truncation_by_sample_fails_after_the_price_is_known():
    measurement, rho, rows = truncated(3, by_sample=True)
    assert rho == pytest.approx(1.5)
    with pytest.raises(OpenDPException, match="multiple fields with name"):
        measurement(rows).collect()


def test_gate_5_all_groups_that_the_snapshot_kept_are_counted():
    keys = numbered(4)
    rows = pl.LazyFrame({"key": ["0", "1", "2"] * 1000}, schema=keys.schema)
    mechanism = build(sums(keys, groups=3))
    answer = mechanism.run(coded(mechanism.sums, rows))
    assert (answer["n"] > 900).to_list() == [True, True, True, False]
    assert "student" not in mechanism.sums.row_schema


# --- 6: the bound is for exactly the group-by columns -----------------------------------------

PAIRS = {"g": LETTERS, "h": LETTERS}


@pytest.mark.parametrize(
    ("bound", "rho"),
    [
        (Bound(by=["g"], per_group=1, num_groups=1), 0.5),
        (Bound(by=["h"], per_group=1, num_groups=1), 1e8),
        (Bound(by=["g", "h"], per_group=1, num_groups=1), 0.5e8),
    ],
    ids=["the same columns", "another column", "more columns"],
)
def test_without_gate_6_a_bound_for_other_columns_falls_back_to_the_longest_group(bound, rho):
    plan = pl.LazyFrame(schema=PAIRS).group_by("g").agg(count(1.0))
    _, claimed = raw(PAIRS, joined(letters("a", "b"), plan), by=["g"], bound=bound)
    assert claimed == pytest.approx(rho)


def test_without_gate_6_keys_declared_invariant_tell_which_groups_are_empty():
    schema = {"g": LETTERS}
    plan = pl.LazyFrame(schema=schema).group_by("g").agg(count(1e6))
    measurement, rho = raw(schema, plan, by=["g"], invariant="keys")
    rows = pl.LazyFrame({"g": ["a"]}, schema=schema)
    assert rho < 1e-12
    assert measurement(rows).collect()["g"].to_list() == ["a"]


def test_without_gate_6_invariant_keys_are_lost_after_a_filter():
    schema = {"g": LETTERS, "v": pl.Int64}
    plan = pl.LazyFrame(schema=schema).filter(pl.col("v") > 0).group_by("g").agg(count(1.0))
    with pytest.raises(OpenDPException, match="key-set"):
        raw(schema, plan, by=["g"], invariant="keys")


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("width", [1, 2])
def test_gate_6_the_loss_is_that_of_the_declared_groups(groups, width):
    keys = letters("a", "b").join(letters("a", "b").rename({"g": "h"}), how="cross")
    keys = keys.select(["g", "h"][:width]).unique(maintain_order=True)
    mechanism = build(sums(keys, NoisySum("v", (-20, 10), 5.0), groups=groups))
    charged = min(groups, keys.height) * 20**2 / (2 * 5.0**2)
    assert mechanism.rho.as_float == pytest.approx(charged, rel=1e-11)


# --- 7: names and dtypes are checked before the debit -----------------------------------------

WRONG_ROWS: dict[str, dict[str, Any]] = {
    "text key": {"g": pl.String(), "v": pl.Int64()},
    "another Enum": {"g": pl.Enum(["b", "a"]), "v": pl.Int64()},
    "column missing": {"g": LETTERS},
    "decimal": {"g": LETTERS, "v": pl.Float64()},
    "narrow integer": {"g": LETTERS, "v": pl.Int32()},
    "another order": {"v": pl.Int64(), "g": LETTERS},
}


@pytest.mark.parametrize("case", ["text key", "another Enum", "column missing"])
def test_without_gate_7_rows_of_another_shape_fail_after_the_price_is_known(case):
    schema = {"g": LETTERS, "v": pl.Int64}
    plan = pl.LazyFrame(schema=schema).group_by("g")
    total = pl.col("v").dp.sum((0, 10), scale=1.0)
    measurement, rho = raw(schema, joined(letters("a", "b"), plan.agg(total)), by=["g"])
    assert rho == pytest.approx(50)
    values = {"g": ["a"], "v": [5]}
    given = {name: values[name] for name in WRONG_ROWS[case]}
    with pytest.raises(OpenDPException, match="FailedFunction"):
        measurement(pl.LazyFrame(given, schema=WRONG_ROWS[case])).collect()


def test_without_gate_7_decimals_in_place_of_integers_get_noise_that_was_not_proven():
    schema = {"g": LETTERS, "v": pl.Int64}
    total = pl.col("v").dp.sum((0, 10), scale=1.0)
    plan = pl.LazyFrame(schema=schema).group_by("g").agg(total)
    measurement, _ = raw(schema, joined(letters("a", "b"), plan), by=["g"])
    rows = pl.LazyFrame({"g": ["a"], "v": [5.0]}, schema={"g": LETTERS, "v": pl.Float64})
    answer = measurement(rows).collect()
    assert answer.schema["v"] == pl.Float64
    assert any(value != int(value) for value in answer["v"])


def test_without_gate_7_a_number_means_another_value_in_another_order_of_values():
    mechanism = build(COUNT_AND_SUM)
    turned = pl.LazyFrame(
        {"g": ["a"] * 1000, "v": [0] * 1000}, schema={"g": pl.Enum(["b", "a"]), "v": pl.Int64}
    )
    answer = mechanism.run(coded(COUNT_AND_SUM, turned))
    assert (answer["n"] > 900).to_list() == [False, True]
    assert answer["g"].to_list() == ["a", "b"]


WRONG_CODES: dict[str, dict[str, Any]] = {
    "number as text": {GROUP: pl.String(), "v": pl.Int64()},
    "signed number": {GROUP: pl.Int64(), "v": pl.Int64()},
    "narrow number": {GROUP: pl.UInt32(), "v": pl.Int64()},
    "values for a number": {"g": LETTERS, "v": pl.Int64()},
    "number missing": {"v": pl.Int64()},
    "column missing of a number": {GROUP: pl.UInt64()},
    "decimal of a number": {GROUP: pl.UInt64(), "v": pl.Float64()},
    "narrow integer of a number": {GROUP: pl.UInt64(), "v": pl.Int32()},
    "another order of a number": {"v": pl.Int64(), GROUP: pl.UInt64()},
}


@pytest.mark.parametrize("case", [*WRONG_ROWS, *WRONG_CODES])
def test_gate_7_rows_of_another_shape_are_refused_before_a_row_is_read(case):
    def read(_: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError("a row was read")

    shape = (WRONG_ROWS | WRONG_CODES)[case]
    rows = pl.LazyFrame({"x": [1]}).map_batches(read, schema=pl.Schema(shape))
    with pytest.raises(RequestError, match="don't fit"):
        build(sums(letters("a", "b"), NoisySum("v", (0, 10), 1.0))).check_rows(rows)


def test_gate_7_rows_of_another_shape_are_never_measured():
    decimals = pl.LazyFrame({GROUP: [0], "v": [5.0]}, schema={GROUP: pl.UInt64, "v": pl.Float64})
    with pytest.raises(ReleaseFailed):
        build(COUNT_AND_SUM).run(decimals)


def test_gate_7_rows_of_the_right_shape_pass_unread():
    def read(_: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError("a row was read")

    mechanism = build(COUNT_AND_SUM)
    shape = pl.Schema(COUNT_AND_SUM.row_schema)
    mechanism.check_rows(pl.LazyFrame({"x": [1]}).map_batches(read, schema=shape))


# --- 8: a count, and sums of clipped integers -------------------------------------------------

WIDE = {"g": LETTERS, "v": pl.Int64, "b": pl.Boolean}
V, B = pl.col("v"), pl.col("b")


def measured(expression: pl.Expr, before: pl.Expr | None = None, *, ordered: bool = False) -> float:
    plan = pl.LazyFrame(schema=WIDE)
    plan = plan if before is None else plan.filter(before)
    plan = joined(letters("a", "b"), plan.group_by("g").agg(expression.alias("x")))
    return raw(WIDE, plan.sort("g") if ordered else plan, by=["g"])[1]


@pytest.mark.parametrize(
    "expression",
    [
        V.var(),
        V.max(),
        V.sum(),
        V.n_unique(),
        B.dp.sum((0, 1), scale=1.0),
        V.is_in([1, 2]).cast(pl.Int64).dp.sum((0, 1), scale=1.0),
        V.is_between(1, 5).cast(pl.Int64).dp.sum((0, 1), scale=1.0),
        pl.when(V > 5).then(1).otherwise(0).dp.sum((0, 1), scale=1.0),
    ],
    ids=["var", "max", "sum", "n_unique", "sum of Boolean", "is_in", "is_between", "when"],
)
def test_without_gate_8_these_expressions_are_refused_by_opendp(expression):
    with pytest.raises(OpenDPException):
        measured(expression)


@pytest.mark.parametrize("before", [V.is_in([1]), V.is_between(1, 2)], ids=["is_in", "is_between"])
def test_without_gate_8_these_filters_are_refused_by_opendp(before):
    with pytest.raises(OpenDPException):
        measured(dp.len(scale=1.0, signed=True), before)


def test_without_gate_8_an_answer_can_not_be_sorted():
    with pytest.raises(OpenDPException, match="sort"):
        measured(dp.len(scale=1.0, signed=True), ordered=True)


@pytest.mark.parametrize(
    ("expression", "rho"),
    [
        (((V > 2) & (V < 5) | (V == 7)).cast(pl.Int64).dp.sum((0, 1), scale=1.0), 0.5),
        (B.cast(pl.Int64).dp.sum((0, 1), scale=1.0), 0.5),
        (V.filter(B).dp.sum((0, 10), scale=10.0), 0.5),
        (V.replace_strict({0: 1, 1: 2}, default=0).dp.sum((0, 2), scale=2.0), 0.5),
    ],
    ids=["comparison", "cast Boolean", "filter in the sum", "replace_strict"],
)
def test_without_gate_8_these_expressions_work(expression, rho):
    assert measured(expression) == pytest.approx(rho)


def test_gate_8_the_language_has_six_metrics_and_no_expression():
    union = get_args(get_args(Metric)[0])
    assert {m.model_fields["metric"].default for m in union} == {
        "students",
        "sum",
        "mean",
        "rate",
        "quantile",
        "histogram",
    }
    for metric in ("var", "max", "n_unique", "when", "sum(clicks)"):
        with pytest.raises(RequestError, match="metric"):
            parse_question({"metrics": [{"metric": metric, "measure": "clicks"}]})


# --- 9: the ledger adds up, not OpenDP's filters ----------------------------------------------


def test_without_gate_9_one_request_over_budget_closes_a_filter_for_good():
    space = dp.atom_domain(T=int), dp.absolute_distance(T=int)
    composition = dp.c.make_fully_adaptive_composition(*space, dp.zero_concentrated_divergence())
    ask = dp.c.make_privacy_filter(composition, d_in=1, d_out=1.0)(0)
    cheap, dear = (dp.m.make_gaussian(*space, scale=scale) for scale in (10.0, 0.1))
    ask(cheap)
    with pytest.raises(OpenDPException, match="would exceed"):
        ask(dear)
    with pytest.raises(OpenDPException, match="exhausted"):
        ask(cheap)
    with pytest.raises(ValueError, match="pickled"):
        pickle.dumps(ask)


def test_gate_9_a_loss_is_a_number_that_adds_up_and_lasts():
    cheap = build(sums(letters("a", "b"), NoisySum("n", None, 10.0)))
    dear = build(sums(letters("a", "b"), NoisySum("n", None, 0.1)))
    budget = Rho.cap(1.0)
    assert cheap.rho <= budget < dear.rho
    assert cheap.rho + cheap.rho == Rho(2 * cheap.rho.units)
    assert pickle.loads(pickle.dumps(cheap.rho)) == cheap.rho  # noqa: S301  our own bytes
    assert Rho(int(json.loads(json.dumps(str(cheap.rho.units))))) == cheap.rho


# --- 10: nothing of an engine's message leaves ------------------------------------------------


def rows_that_fail() -> pl.LazyFrame:
    """The right shape, and a cell that the engine refuses when it comes to it."""
    text = pl.LazyFrame({"g": ["a", SECRET], "v": [1, 2]})
    return text.with_columns(pl.col("g").cast(LETTERS))


def test_without_gate_10_an_engine_error_echoes_a_cell():
    schema = {"g": LETTERS, "v": pl.Int64}
    plan = pl.LazyFrame(schema=schema).group_by("g").agg(count(1.0))
    measurement, _ = raw(schema, joined(letters("a", "b"), plan), by=["g"])
    with pytest.raises(OpenDPException, match=SECRET):
        measurement(rows_that_fail()).collect()


def test_gate_10_a_failed_release_says_nothing_of_a_cell(caplog):
    mechanism = build(COUNT_AND_SUM)
    rows = coded(COUNT_AND_SUM, rows_that_fail())
    mechanism.check_rows(rows)
    with pytest.raises(ReleaseFailed) as caught:
        mechanism.run(rows)
    failure = caught.value
    logging.getLogger("test").error("a release failed", exc_info=failure)
    page = io.StringIO()
    Console(file=page).print(
        Traceback.from_exception(type(failure), failure, failure.__traceback__)
    )
    told = [str(failure), repr(failure), caplog.text, page.getvalue()]
    told += traceback.format_exception(failure)
    assert failure.__cause__ is None
    assert failure.__suppress_context__
    assert "could not be computed" in caplog.text
    assert not [text for text in told if SECRET in text or "conversion from" in text]


def test_gate_10_a_shape_that_can_not_be_told_says_nothing_of_a_cell():
    broken = pl.LazyFrame({"g": [SECRET]}).select(pl.col("v").cast(pl.Int64))
    with pytest.raises(RequestError) as caught:
        build(COUNT_AND_SUM).check_rows(broken)
    told = "".join(traceback.format_exception(caught.value))
    assert "ColumnNotFound" not in told
    assert SECRET not in told


# --- 11: counts are signed --------------------------------------------------------------------


def test_without_gate_11_a_count_of_nobody_is_far_from_zero_on_average():
    schema = {"key": numbered(1000).schema["key"]}
    plan = pl.LazyFrame(schema=schema).group_by("key")
    plan = plan.agg(dp.len(scale=50.0, signed=False).alias("n"))
    measurement, _ = raw(schema, joined(numbered(1000), plan, ["key"]), by=["key"])
    answer = measurement(pl.LazyFrame(schema=schema)).collect()["n"]
    assert answer.min() == 0
    assert 15 < answer.mean() < 25  # scale / sqrt(2 pi) is 20


def test_gate_11_a_count_of_nobody_is_zero_on_average():
    mechanism = build(sums(numbered(1000), NoisySum("n", None, 50.0)))
    answer = mechanism.run(pl.LazyFrame(schema=mechanism.sums.row_schema))["n"]
    assert answer.min() < 0
    assert abs(answer.mean()) < 10  # more than six standard errors

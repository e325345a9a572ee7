"""Rows of a view become bounded rows, one student at a time."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import SnapshotError
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.view import (
    ACADEMIC_YEAR,
    STUDENT,
    Contribution,
    Dimension,
    Measure,
    Range,
    View,
)
from dpanalytics.store.views import (
    MAX_VALUE,
    bounded,
    declared_rows,
    faults,
    in_order,
    of_students,
    snapshot_schema,
    with_dense_index,
    with_one_value,
    within_limit,
)

YEAR = "2013/14"
VIEW = View(
    name="activity",
    title="Activity",
    description="Clicks of a student on a module in a week.",
    purposes=(Purpose.IMPROVE_TEACHING,),
    academic_years=("2012/13", YEAR),
    sql="SELECT 1",
    grain=("module", "week"),
    dimensions=(
        Dimension(name="module", title="Module", values=("AAA", "BBB", "CCC", "DDD")),
        Dimension(name="week", title="Week", range=Range(first=-2, last=6)),
        Dimension(name="region", title="Region", values=("North", "South", "West"), constant=True),
    ),
    measures=(
        Measure(name="clicks", title="Clicks", unit="clicks", bounds=(0, 100), combine="sum"),
        Measure(
            name="score", title="Score", unit="%", bounds=(0, 100), combine="max", optional=True
        ),
    ),
    contributions=(
        Contribution(by=("module",), groups=2),
        Contribution(by=("module", "week"), groups=4),
    ),
)
INPUT = {
    STUDENT: pl.Binary,
    ACADEMIC_YEAR: pl.String,
    "module": pl.String,
    "week": pl.Int64,
    "region": pl.String,
    "clicks": pl.Int64,
    "score": pl.Int64,
}

ROWS = st.lists(
    st.tuples(
        st.sampled_from([b"s1", b"s2", b"s3", b"s4"]),
        st.just(YEAR),
        st.sampled_from(["AAA", "BBB", "CCC", "DDD", "ZZZ", None]),
        st.sampled_from([*range(-3, 8), None]),
        st.sampled_from(["North", "South", "West", "Moon", None]),
        st.sampled_from([0, 1, 7, -MAX_VALUE, MAX_VALUE + 1, None]),
        st.sampled_from([0, 50, None]),
    ),
    max_size=60,
    unique_by=lambda row: (row[0], row[2], row[3]),
)
SEEDS = st.integers(0, 2**64 - 1)


def declared(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=INPUT, orient="row")
    return declared_rows(frame.lazy(), VIEW).collect()


def block(rows: list[tuple[object, ...]], seed: int = 1) -> pl.DataFrame:
    return bounded(declared(rows), VIEW, seed=seed).rows


def of(rows: pl.DataFrame, student: bytes) -> list[tuple[object, ...]]:
    return sorted(rows.filter(pl.col(STUDENT) == student).rows(), key=repr)


@settings(max_examples=150)
@given(rows=ROWS, seed=SEEDS, shuffled=st.randoms(use_true_random=False))
def test_what_is_kept_of_a_student_depends_on_no_other_student(rows, seed, shuffled):
    together = block(rows, seed)
    mixed = list(rows)
    shuffled.shuffle(mixed)
    assert sorted(block(mixed, seed).rows(), key=repr) == sorted(together.rows(), key=repr)
    for student in (b"s1", b"s2", b"s3", b"s4"):
        alone = block([row for row in rows if row[0] == student], seed)
        assert of(together, student) == of(alone, student)


@settings(max_examples=100)
@given(rows=ROWS, seed=SEEDS)
def test_each_transform_alone_is_a_function_of_one_students_rows(rows, seed):
    frame = declared(rows).filter(pl.col("module").is_not_null(), pl.col("region").is_not_null())
    agreed = pl.LazyFrame({STUDENT: [b"s1", b"s3"]}, schema={STUDENT: pl.Binary})
    transforms = {
        "of_students": lambda f: of_students(f.lazy(), agreed).collect(),
        "with_one_value": lambda f: with_one_value(f, "region")[0],
        "within_limit": lambda f: within_limit(f, VIEW.contributions[0], seed=seed),
        "declared_rows": lambda f: declared_rows(f.lazy(), VIEW).collect(),
    }
    for name, transform in transforms.items():
        together = transform(frame)
        for student in (b"s1", b"s2", b"s3", b"s4"):
            alone = transform(frame.filter(pl.col(STUDENT) == student))
            assert of(together, student) == of(alone, student), name


@settings(max_examples=150)
@given(rows=ROWS, seed=SEEDS)
def test_bounded_rows_numbered_and_sorted_have_no_fault(rows, seed):
    kept = block(rows, seed)
    snapshot = in_order(with_dense_index(kept, seed=seed), VIEW)
    assert faults(snapshot.lazy(), VIEW, YEAR) == ()
    by_hand = [d.to_physical() for d in snapshot.select("module", "week", "region", STUDENT)]
    assert list(zip(*by_hand, strict=True)) == sorted(zip(*by_hand, strict=True))
    assert snapshot.get_column(STUDENT).n_unique() == kept.get_column(STUDENT).n_unique()


@settings(max_examples=100)
@given(rows=ROWS, seed=SEEDS)
def test_every_row_is_kept_or_counted(rows, seed):
    frame = declared(rows)
    result = bounded(frame, VIEW, seed=seed)
    assert result.rows.height + sum(result.dropped.values()) == frame.height


def test_a_limit_keeps_each_group_about_equally_often():
    rows = [(b"s1", YEAR, m, 0, "North", 1, None) for m in ("AAA", "BBB", "CCC", "DDD")]
    frame = declared(rows)
    runs = 2000
    kept: Counter[str] = Counter()
    pairs: Counter[tuple[str, ...]] = Counter()
    for seed in range(runs):
        chosen = within_limit(frame, VIEW.contributions[0], seed=seed)
        modules = tuple(sorted(chosen.get_column("module").cast(pl.String)))
        kept.update(modules)
        pairs[modules] += 1
    # Binomial; six standard deviations: an unbiased choice fails 2 in a thousand million times.
    assert len(kept) == 4
    for count in kept.values():
        assert abs(count - runs / 2) < 6 * (runs / 4) ** 0.5
    assert len(pairs) == 6
    for count in pairs.values():
        assert abs(count - runs / 6) < 6 * (runs * 5 / 36) ** 0.5


def test_one_seed_chooses_differently_for_different_students():
    students = [i.to_bytes(16, "big") for i in range(2000)]
    rows = [(s, YEAR, m, 0, "North", 1, None) for s in students for m in ("AAA", "BBB", "CCC")]
    chosen = within_limit(declared(rows), VIEW.contributions[0], seed=7)
    counts = chosen.get_column("module").value_counts().get_column("count").to_list()
    assert sum(counts) == 4000
    for count in counts:
        assert abs(count - 4000 / 3) < 6 * (2000 * 2 / 9) ** 0.5


def test_a_limit_keeps_all_rows_of_a_group_it_keeps():
    rows = [(b"s1", YEAR, m, w, "North", 1, None) for m in ("AAA", "BBB", "CCC") for w in range(5)]
    chosen = within_limit(declared(rows), Contribution(by=("module",), groups=1), seed=3)
    assert chosen.height == 5
    assert chosen.get_column("module").n_unique() == 1


def test_a_constant_dimension_gets_the_value_of_most_rows_and_the_first_declared_of_equals():
    rows = [
        (b"s1", YEAR, "AAA", 0, "South", 1, None),
        (b"s1", YEAR, "AAA", 1, "South", 1, None),
        (b"s1", YEAR, "AAA", 2, "North", 1, None),
        (b"s2", YEAR, "AAA", 0, "West", 1, None),
        (b"s2", YEAR, "AAA", 1, "South", 1, None),
    ]
    result = bounded(declared(rows), VIEW, seed=1)
    assert set(result.rows.select(STUDENT, "region").rows()) == {(b"s1", "South"), (b"s2", "South")}
    assert result.rewritten == {"region": 2}
    assert result.dropped == {}


def test_rows_with_undeclared_missing_or_excessive_values_are_dropped_and_counted():
    rows = [
        (b"s1", YEAR, "AAA", 0, "North", 1, None),
        (b"s1", YEAR, "ZZZ", 0, "North", 1, None),
        (b"s1", YEAR, "AAA", 7, "North", 1, None),
        (b"s1", YEAR, "AAA", 1, None, 1, None),
        (b"s1", YEAR, "AAA", 2, "North", None, None),
        (b"s1", YEAR, "AAA", 3, "North", MAX_VALUE + 1, None),
        (None, YEAR, "AAA", 4, "North", 1, None),
    ]
    result = bounded(declared(rows), VIEW, seed=1)
    assert result.rows.height == 1
    assert result.dropped == {
        "missing student": 1,
        "undeclared value of module": 1,
        "undeclared value of week": 1,
        "undeclared value of region": 1,
        "missing value of clicks": 1,
        f"value of clicks beyond {MAX_VALUE}": 1,
    }


def test_two_rows_of_one_student_and_grain_are_refused():
    rows = [(b"s1", YEAR, "AAA", 0, "North", clicks, None) for clicks in (1, 2)]
    with pytest.raises(SnapshotError, match="several rows for one student, academic_year, module"):
        bounded(declared(rows), VIEW, seed=1)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int64, pl.UInt64, pl.Float64, pl.String])
def test_a_range_is_met_by_numbers_of_any_kind_and_by_their_text(dtype):
    weeks = [0, 6, 7, 100, None] if dtype == pl.UInt64 else [-3, -2, 6, 100, None]
    frame = pl.LazyFrame(
        {STUDENT: [b"s"] * 5, ACADEMIC_YEAR: [YEAR] * 5, "week": weeks, "module": ["AAA"] * 5}
    ).with_columns(
        pl.col("week").cast(dtype), region=pl.lit("North"), clicks=pl.lit(1), score=pl.lit(None)
    )
    expected = [str(w) if w is not None and -2 <= w <= 6 else None for w in weeks]
    assert declared_rows(frame, VIEW).collect().get_column("week").to_list() == expected


def test_a_fraction_infinity_or_no_number_is_no_whole_number():
    frame = pl.LazyFrame(
        {
            STUDENT: [b"s"] * 5,
            ACADEMIC_YEAR: [YEAR] * 5,
            "week": [1.5, float("inf"), float("nan"), 1e300, 3.0],
            "module": pl.Series(
                ["AAA", "BBB", "CCC", "XXX", None], dtype=pl.Enum(["XXX", "AAA", "BBB", "CCC"])
            ),
        }
    ).with_columns(region=pl.lit("North"), clicks=pl.lit(True), score=pl.lit(None))
    rows = declared_rows(frame, VIEW).collect()
    assert rows.get_column("week").to_list() == [None, None, None, None, "3"]
    assert rows.get_column("module").to_list() == ["AAA", "BBB", "CCC", None, None]
    assert rows.get_column("clicks").to_list() == [1] * 5


def test_a_measure_that_is_no_whole_number_is_refused_before_rows_are_read():
    frame = pl.LazyFrame(schema={**INPUT, "clicks": pl.Float64})
    with pytest.raises(SnapshotError, match="measure clicks is Float64"):
        declared_rows(frame, VIEW)


def test_a_column_that_the_sql_does_not_yield_is_named():
    with pytest.raises(SnapshotError, match="no column region"):
        declared_rows(pl.LazyFrame(schema=INPUT).drop("region"), VIEW)


def test_numbers_of_students_follow_the_seed_and_not_the_pseudonyms():
    rows = [(bytes([i]), YEAR, "AAA", 0, "North", i, None) for i in range(100)]
    kept = block(rows)

    def numbers(seed: int) -> list[int]:
        return with_dense_index(kept, seed=seed).sort("clicks").get_column(STUDENT).to_list()

    assert sorted(numbers(1)) == list(range(100))
    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)
    assert numbers(1) != list(range(100))


def good_snapshot() -> pl.DataFrame:
    rows = [
        (s, YEAR, m, w, "North", 1, None)
        for s in (b"s1", b"s2")
        for m in ("AAA", "BBB")
        for w in (0, 1)
    ]
    return in_order(with_dense_index(block(rows), seed=1), VIEW)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda s: s.drop("score"), "columns"),
        (lambda s: s.with_columns(pl.col("clicks").cast(pl.Int32)), "columns"),
        (lambda s: s.with_columns(pl.col("week").cast(pl.String)), "columns"),
        (lambda s: pl.concat([s, s.head(1)]), "one student and grain"),
        (lambda s: s.with_columns(pl.col(STUDENT) + 1), "numbered"),
        (lambda s: s.with_columns(pl.col(STUDENT) * 2), "numbered"),
        (lambda s: s.with_columns(clicks=pl.lit(None, pl.Int64)), "clicks is missing"),
        (lambda s: s.with_columns(clicks=pl.lit(MAX_VALUE + 1)), "clicks lies beyond"),
        (
            lambda s: s.with_columns(
                region=pl.when(pl.col("module") == "AAA")
                .then(pl.lit("South"))
                .otherwise(pl.lit("North"))
                .cast(s.schema["region"])
            ),
            "several values of region",
        ),
        (
            lambda s: pl.concat(
                [
                    s,
                    s.filter(pl.col("module") == "AAA").with_columns(
                        module=pl.lit("CCC").cast(s.schema["module"])
                    ),
                ]
            ),
            "more than 2 groups",
        ),
        (
            lambda s: s.with_columns(academic_year=pl.lit("2012/13").cast(s.schema[ACADEMIC_YEAR])),
            "another academic year",
        ),
    ],
)
def test_each_broken_promise_is_a_fault(spoil, fault):
    assert faults(good_snapshot().lazy(), VIEW, YEAR) == ()
    assert any(fault in found for found in faults(spoil(good_snapshot()).lazy(), VIEW, YEAR))


def test_a_view_of_very_many_values_is_sorted_too():
    view = VIEW.model_copy(
        update={
            "dimensions": tuple(
                Dimension(name=f"d{i}", title="D", range=Range(first=0, last=9999))
                for i in range(3)
            )
        }
    )
    frame = pl.DataFrame({STUDENT: [2, 1, 0], "d0": [5, 0, 0], "d1": [0, 9, 1], "d2": [0, 0, 9]})
    frame = frame.with_columns(
        pl.col(STUDENT).cast(pl.UInt32),
        *(pl.col(d.name).cast(pl.String).cast(pl.Enum(d.domain)) for d in view.dimensions),
    )
    assert in_order(frame, view).get_column(STUDENT).to_list() == [0, 1, 2]


def test_an_empty_view_keeps_its_schema():
    kept = with_dense_index(block([]), seed=1)
    assert in_order(kept, VIEW).schema == snapshot_schema(VIEW)

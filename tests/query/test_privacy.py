"""Neighbouring snapshots: what a release gives away of one student, against what it claims.

The neighbours are a snapshot and the same one without its heaviest student: most groups, most
rows, values beyond the bounds. A claim of rho is refuted in two ways, each with a false alarm of
at most `FALSE_ALARM`:

- by an event, whatever the noise: rho-zCDP bounds P(E | D) by e**epsilon * P(E | D') + delta, for
  delta by OpenDP's conversion (Canonne, Kamath and Steinke 2020); the bounds on the two
  probabilities are Clopper and Pearson's (1934). It sees a loss of about three times the claim.
- by the shift: bell-shaped noise of variance v that moves by m loses m**2 / 2v (Bun and Steinke
  2016, Proposition 1.6). The normal approximation is of a mean and a variance over thousands of
  draws. It sees a loss of about one and a half times the claim.

Both look at the answers along the line between the two exact answers, where the likelihoods
differ most. Every academic year is a unit of its own, so one run over fifty years with the same
students is fifty draws.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import opendp.prelude as dp
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendp.extras.polars import Bound

from dpanalytics.ledger.journal import Ticket
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.builder import QuestionBuilder, ask
from dpanalytics.query.mechanism import Mechanism, NoisySum, NoisySums, build
from dpanalytics.query.plan import Plan, Release, plan_query
from dpanalytics.query.release import release, rows_of_table
from dpanalytics.schema.view import View

FALSE_ALARM = 1e-8
"""Probability that a sound mechanism is refuted, per way of refuting."""
CLAIM = Rho.cap(0.5)
EPSILON = 0.5
"""Where the event is judged: at this claim, halved noise is furthest from what is allowed."""
YEARS = tuple(f"{2000 + n}/{n + 1:02d}" for n in range(50))
MODULES, WEEKS = ("A", "B", "C", "D"), ("1", "2", "3", "4", "5", "6")
HEAVY = 9


def view_of(modules_a_student: int = 2) -> View:
    measure = {"title": "t", "unit": "u", "bounds": [0, 100]}
    return View.model_validate(
        {
            "name": "weekly",
            "title": "Weeks",
            "description": "A student's weeks in modules.",
            "purposes": ["quality-review"],
            "academic_years": YEARS,
            "sql": "select 1",
            "grain": ["module", "week"],
            "dimensions": [
                {"name": "module", "title": "Module", "values": MODULES},
                {"name": "week", "title": "Week", "values": WEEKS},
            ],
            "measures": [
                measure | {"name": "clicks", "combine": "sum"},
                measure | {"name": "score", "combine": "max", "optional": True},
                measure | {"name": "latest", "combine": "last", "order_by": "week"},
                {
                    "name": "handed_in",
                    "title": "t",
                    "unit": "u",
                    "bounds": [0, 1],
                    "combine": "any",
                },
            ],
            "contributions": [
                {"by": ["module"], "groups": modules_a_student},
                {"by": ["module", "week"], "groups": 12},
            ],
        }
    )


@dataclass(frozen=True)
class FakeSnapshot:
    """One academic year's rows, in memory."""

    academic_year: str
    rows: pl.DataFrame
    population: str = "all students on record"

    @property
    def id(self) -> str:
        return f"weekly@{self.academic_year}"

    def scan(self) -> pl.LazyFrame:
        return self.rows.lazy()


Row = tuple[int, str, str, int, int | None]
"""Student, module, week, clicks (also latest and handed in), score."""


def snapshot(rows: Sequence[Row], year: str) -> FakeSnapshot:
    schema = {
        "student": pl.UInt32(),
        "academic_year": pl.Enum(YEARS),
        "module": pl.Enum(MODULES),
        "week": pl.Enum(WEEKS),
        "clicks": pl.Int64(),
        "score": pl.Int64(),
        "latest": pl.Int64(),
        "handed_in": pl.Int64(),
    }
    wide = [(s, year, m, w, clicks, score, clicks, clicks) for s, m, w, clicks, score in rows]
    return FakeSnapshot(year, pl.DataFrame(wide, schema=schema, orient="row"))


OTHERS: tuple[Row, ...] = (
    (0, "A", "1", 30, 35),
    (0, "A", "2", 20, None),
    (1, "A", "1", 5, 62),
    (1, "D", "3", 70, 80),
    (2, "B", "6", 40, None),
)


def heavy(modules: Sequence[str] = ("A", "B")) -> tuple[Row, ...]:
    """Every week of some modules, each week at or beyond the bounds of every measure."""
    return tuple((HEAVY, m, w, 400, 250) for m in modules for w in WEEKS)


Ask = Callable[[QuestionBuilder], QuestionBuilder]
METRICS: Mapping[str, Ask] = {
    "students": lambda q: q.students(),
    "sum": lambda q: q.sum("clicks"),
    "mean": lambda q: q.mean("clicks"),
    "mean of an optional measure": lambda q: q.mean("score"),
    "rate": lambda q: q.rate(where={"week": ["1"]}),
    "rate of a measure": lambda q: q.rate(measure="clicks", at_least=50),
    "quantile": lambda q: q.quantile("score", 0.5, step=25),
    "histogram": lambda q: q.histogram(measure="clicks", cuts=[40, 70]),
    "histogram of a dimension": lambda q: q.histogram(dimension="week"),
}


def plan_of(metric: str, view: View, years: Sequence[str] = YEARS, offered: Rho = CLAIM) -> Plan:
    empty = ask(view.name, years=years, purpose="quality-review")
    question = METRICS[metric](empty.group_by("academic_year", "module")).spending(epsilon=1)
    return plan_query(question, view, [snapshot((), y) for y in years], offered=offered)


def on(plan: Plan, rows: Sequence[Row]) -> Plan:
    """The same plan on another snapshot."""
    return replace(plan, snapshots=tuple(snapshot(rows, y) for y in plan.academic_years))


# What is released: the mechanism of a table, and the rows that it is run on.
Part = tuple[Mechanism, pl.DataFrame]


def parts(plan: Plan) -> list[Part]:
    """The release as it is: the plan's mechanisms on the rows that the room makes of them."""
    return [(r.mechanism, rows_of_table(plan, r).collect()) for r in plan.releases]


def exact(part: Part) -> np.ndarray:
    """The sums before noise: a row a key, a column a sum."""
    mechanism, rows = part
    sums, by = mechanism.sums, mechanism.sums.keys.columns
    found = rows.group_by(by).agg(
        (pl.len() if c.bounds is None else pl.col(c.name).clip(*c.bounds).sum())
        .cast(pl.Int64)
        .alias(c.name)
        for c in sums.columns
    )
    joined = sums.keys.join(found, on=by, how="left", maintain_order="left").fill_null(0)
    return joined.select(c.name for c in sums.columns).to_numpy().astype(float)


def by_year(values: Sequence[np.ndarray], years: int) -> np.ndarray:
    """A row a year, from tables whose keys begin with the year."""
    return np.hstack([v.reshape(years, -1) for v in values])


def scales(some: Sequence[Part], years: int) -> np.ndarray:
    """The noise scale of every number, in the shape of `by_year`."""
    each = [
        np.tile([c.scale for c in mechanism.sums.columns], (mechanism.sums.keys.height, 1))
        for mechanism, _ in some
    ]
    return by_year(each, years)


def exact_loss(of: Sequence[Part], without: Sequence[Part], years: int) -> float:
    """Rho of Gaussian noise at the distance of two neighbours: the worst year's."""
    moved = by_year([exact(p) for p in of], years) - by_year([exact(p) for p in without], years)
    return float(((moved / scales(of, years)) ** 2).sum(axis=1).max() / 2)


def draws(some: Sequence[Part], direction: np.ndarray, count: int) -> np.ndarray:
    """`count` noisy answers or a few more, each as its place along `direction`."""
    years, found = direction.shape[0], []
    frames = [(mechanism, rows.lazy()) for mechanism, rows in some]
    while len(found) * years < count:
        noisy = [
            m.run(rows).select(c.name for c in m.sums.columns).to_numpy() for m, rows in frames
        ]
        found.append((by_year(noisy, years) * direction).sum(axis=1))
    return np.concatenate(found)


@dataclass(frozen=True)
class Verdict:
    """Which ways refute the claim."""

    by_event: bool
    by_shift: bool

    @property
    def refuted(self) -> bool:
        return self.by_event or self.by_shift


def judge(
    of: Sequence[Part], without: Sequence[Part], *, claimed: Sequence[Part], count: int
) -> Verdict:
    """Whether draws on two neighbours refute the loss that `claimed` claims."""
    years = claimed[0][0].sums.keys["academic_year"].n_unique()
    rho = sum(mechanism.rho.units for mechanism, _ in claimed)
    one, other = (by_year([exact(p) for p in some], years) for some in (of, without))
    direction = (one - other) / scales(claimed, years) ** 2
    middle = float(((one + other) / 2 * direction).sum(axis=1).mean())
    a, b = draws(of, direction, count), draws(without, direction, count)
    return Verdict(_by_event(a, b, middle, Rho(rho)), _by_shift(a, b, Rho(rho)))


def _by_event(a: np.ndarray, b: np.ndarray, middle: float, claim: Rho) -> bool:
    dp.enable_features("contrib")
    gaussian = dp.m.make_gaussian(dp.atom_domain(T=int), dp.absolute_distance(T=float), scale=1.0)
    profile = dp.c.make_zCDP_to_approxDP(gaussian).map(math.sqrt(2 * claim.as_float))
    delta = profile.delta(EPSILON)
    error = FALSE_ALARM / 4
    for often, seldom in ((a > middle, b > middle), (b <= middle, a <= middle)):
        least = 1 - most_likely(int((~often).sum()), often.size, error)
        most = most_likely(int(seldom.sum()), seldom.size, error)
        if least > math.exp(EPSILON) * most + delta:
            return True
    return False


def _by_shift(a: np.ndarray, b: np.ndarray, claim: Rho) -> bool:
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)
    variance = (a.var(ddof=1) + b.var(ddof=1)) / 2
    moved = abs(a.mean() - b.mean()) - z * math.sqrt(variance * (1 / a.size + 1 / b.size))
    most = variance * (1 + z * math.sqrt(2 / (a.size + b.size - 2)))
    return max(0.0, moved) ** 2 / (2 * most) > claim.as_float


def most_likely(seen: int, tries: int, error: float) -> float:
    """The probability that would show so few as `seen` with probability `error` only."""
    if seen == tries:
        return 1.0
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, tries + 1)))])
    k = np.arange(seen + 1)
    ways = logs[tries] - logs[k] - logs[tries - k]
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = np.exp(ways + k * math.log(p) + (tries - k) * math.log1p(-p)).sum()
        low, high = (p, high) if tail > error else (low, p)
    return high


def louder(plan: Plan, factor: float) -> Plan:
    """The plan with every noise scale multiplied, and the price left out of it."""

    def changed(each: Release) -> Release:
        sums = each.mechanism.sums
        columns = tuple(replace(c, scale=c.scale * factor) for c in sums.columns)
        return replace(each, mechanism=build(replace(sums, columns=columns)))

    return replace(plan, releases=tuple(changed(r) for r in plan.releases))


def uncombined(plan: Plan) -> list[Part]:
    """What comes of leaving out the step that makes a student one row a group."""
    view = plan.view.model_copy(update={"grain": ()})
    return parts(replace(plan, view=view))


def unclipped(plan: Plan) -> list[Part]:
    """What comes of summing values as they are, at the noise of clipped ones."""
    found = []
    for each in plan.releases:
        open_ended = tuple(
            replace(c, clip=(-(10**6), 10**6)) if c.clip else c for c in each.columns
        )
        sums = each.mechanism.sums
        columns = tuple(
            replace(c, bounds=(-(10**6), 10**6)) if c.bounds else c for c in sums.columns
        )
        rows = rows_of_table(plan, replace(each, columns=open_ended)).collect()
        found.append((build(replace(sums, columns=columns)), rows))
    return found


def neighbours(plan: Plan, student: Sequence[Row] | None = None) -> tuple[Plan, Plan]:
    return on(plan, (*OTHERS, *(student or heavy()))), on(plan, OTHERS)


# --- the claim -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_p1_2i_a_release_gives_away_no_more_than_it_claims(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    assert not judge(parts(big), parts(small), claimed=parts(big), count=1500).refuted


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_p1_2i_a_release_gives_away_no_more_than_it_claims_in_many_draws(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    assert not judge(parts(big), parts(small), claimed=parts(big), count=50_000).refuted


@pytest.mark.parametrize("metric", METRICS)
def test_the_claim_is_opendps_map_and_adds_up_over_tables(metric):
    plan = plan_of(metric, view_of())
    for each in plan.releases:
        sums = each.mechanism.sums
        bound = Bound(by=sums.keys.columns, per_group=1, num_groups=sums.num_groups)
        proven = each.mechanism.measurement.map([bound])
        assert each.mechanism.rho == Rho.cost(proven)
        formula = sum(
            sums.num_groups * max(map(abs, c.bounds or (1, 1))) ** 2 / (2 * c.scale**2)
            for c in sums.columns
        )
        assert proven == pytest.approx(formula, rel=1e-12)
    assert plan.cost.units == sum(r.mechanism.rho.units for r in plan.releases)
    assert CLAIM.as_float * 0.9999 < plan.cost.as_float <= CLAIM.as_float


@pytest.mark.parametrize("metric", METRICS)
def test_the_heaviest_student_uses_the_whole_claim(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    loss = exact_loss(parts(big), parts(small), len(YEARS))
    assert big.cost.as_float * (1 - 1e-6) < loss <= big.cost.as_float


ROWS_OF_A_STUDENT = st.lists(st.sampled_from(MODULES), min_size=1, max_size=2, unique=True).flatmap(
    lambda modules: st.lists(
        st.tuples(
            st.sampled_from(modules),
            st.sampled_from(WEEKS),
            st.integers(-(10**12), 10**12) | st.integers(-3, 120),
            st.none() | st.integers(-(10**12), 10**12) | st.integers(-3, 120),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[:2],
    )
)


@functools.cache
def broad_plans() -> tuple[Plan, ...]:
    """Questions over one year that between them use every metric, measure and grouping."""
    year = YEARS[:1]
    one, several = (
        ask("weekly", years=year, purpose="quality-review")
        .group_by(*by)
        .students()
        .sum("clicks")
        .mean("clicks")
        .mean("score")
        .sum("latest", bounds=[-5, 50])
        .mean("latest", bounds=[20, 30])
        .rate(measure="handed_in", at_least=1)
        .rate(measure="score", at_least=40, at_most=90)
        .quantile("score", step=10)
        .histogram(measure="latest", cuts=[10, 20])
        for by in ((), ("module",))
    )
    questions = [
        q.rate(where={"week": ["1", "4"]}).histogram(dimension="week") for q in (one, several)
    ] + [q.group_by("week") for q in (one, several)]
    return tuple(
        plan_query(q.spending(epsilon=1), view_of(), [snapshot((), y) for y in year], offered=CLAIM)
        for q in questions
    )


@settings(max_examples=25, deadline=None)
@given(place=st.integers(0, 3), students=st.lists(ROWS_OF_A_STUDENT, min_size=1, max_size=4))
def test_p1_2i_no_student_moves_the_sums_further_than_the_claim(place, students):
    plan = broad_plans()[place]
    rows = [(s, *row) for s, of_one in enumerate(students) for row in of_one]
    everybody = parts(on(plan, rows))
    for student in range(len(students)):
        rest = parts(on(plan, [row for row in rows if row[0] != student]))
        assert exact_loss(everybody, rest, 1) <= plan.cost.as_float


# --- mechanisms known to be broken -----------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_half_the_sensitivity_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(parts(louder(big, 0.5)), parts(louder(small, 0.5)), claimed=parts(big), count=500)
    assert found.by_shift


@pytest.mark.parametrize("metric", ["students", "mean"])
def test_half_the_sensitivity_is_found_out_whatever_the_noise(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(
        parts(louder(big, 0.5)), parts(louder(small, 0.5)), claimed=parts(big), count=4000
    )
    assert found.by_event


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "histogram of a dimension"])
def test_counting_a_student_twice_in_a_group_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(uncombined(big), uncombined(small), claimed=parts(big), count=500)
    assert found.by_shift


@pytest.mark.parametrize("metric", ["sum", "mean", "mean of an optional measure"])
def test_values_not_clipped_are_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(unclipped(big), unclipped(small), claimed=parts(big), count=500)
    assert found.by_shift
    assert found.by_event


@pytest.mark.parametrize("metric", METRICS)
def test_a_student_in_more_groups_than_the_view_allows_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of(1)), heavy(MODULES))
    found = judge(parts(big), parts(small), claimed=parts(big), count=500)
    assert found.by_shift


# --- the noise -------------------------------------------------------------------------------


def goodness_of_fit(noise: np.ndarray, scale: float) -> bool:
    """Whether whole numbers may be discrete Gaussian; no 1 time in `FALSE_ALARM` if they are.

    Pearson's chi-square over the values expected 20 times or more, its tail bounded as Laurent
    and Massart (2000, Lemma 1) bound it.
    """
    support = np.arange(-int(12 * scale) - 2, int(12 * scale) + 3)
    weights = np.exp(-(support.astype(float) ** 2) / (2 * scale**2))
    expected = weights / weights.sum() * noise.size
    kept = support[expected >= 20]
    inside = np.array([(noise == value).sum() for value in kept], dtype=float)
    wanted = expected[expected >= 20]
    rest = noise.size - inside.sum(), max(noise.size - wanted.sum(), 1e-9)
    statistic = ((inside - wanted) ** 2 / wanted).sum() + (rest[0] - rest[1]) ** 2 / rest[1]
    freedom, x = kept.size, -math.log(FALSE_ALARM)
    return bool(statistic <= freedom + 2 * math.sqrt(freedom * x) + 2 * x)


def noise_of(column: NoisySum, count: int) -> np.ndarray:
    names = [str(n) for n in range(2000)]
    keys = pl.DataFrame({"key": names}, schema={"key": pl.Enum(names)})
    mechanism = build(NoisySums(keys, (column,), 1))
    empty = pl.LazyFrame(schema=mechanism.sums.row_schema)
    runs = range(math.ceil(count / keys.height))
    return np.concatenate([mechanism.run(empty)[column.name].to_numpy() for _ in runs])


@pytest.mark.parametrize("scale", [1.0, 2.5, 40.0])
@pytest.mark.parametrize("bounds", [None, (-50, 50)], ids=["count", "sum"])
def test_noise_is_discrete_gaussian_of_the_scale_stated(scale, bounds):
    noise = noise_of(NoisySum("n", bounds, scale), 40_000)
    assert goodness_of_fit(noise, scale)


def test_the_test_of_noise_finds_other_noise_out():
    random = np.random.default_rng(1)
    assert not goodness_of_fit(noise_of(NoisySum("n", None, 2.3), 40_000), 2.5)
    laplace = np.rint(random.laplace(scale=2.5 / math.sqrt(2), size=40_000))
    assert not goodness_of_fit(laplace, 2.5)
    assert not goodness_of_fit(noise_of(NoisySum("n", None, 2.5), 40_000) + 1, 2.5)


def test_noise_of_neighbouring_numbers_is_unrelated():
    columns = NoisySum("n", None, 5.0), NoisySum("v", (-50, 50), 5.0)
    names = [str(n) for n in range(4000)]
    keys = pl.DataFrame({"key": names}, schema={"key": pl.Enum(names)})
    mechanism = build(NoisySums(keys, columns, 1))
    empty = pl.LazyFrame(schema=mechanism.sums.row_schema)
    noise = np.concatenate(
        [mechanism.run(empty).select("n", "v").to_numpy() for _ in range(5)]
    ).astype(float)
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)
    n, v = noise.T
    for one, other in ((n, v), (n[1:], n[:-1]), (v[1:], v[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < z / math.sqrt(one.size)


# --- what stands beside the numbers ----------------------------------------------------------


def test_p1_2i_nothing_of_an_answer_but_its_noisy_numbers_depends_on_a_student():
    noisy = {"estimate", "margin", "low", "high", "swamped", "students"}
    for plan in broad_plans():
        answers = []
        for rows in ((*OTHERS, *heavy()), OTHERS, ()):
            asked = on(plan, rows)
            answer = json.loads(release(asked, Ticket("r", asked.digest, 1)))
            answer["rows"] = [
                {name: value for name, value in row.items() if name not in noisy}
                for row in answer["rows"]
            ]
            answers.append(answer)
        assert answers[0] == answers[1] == answers[2]

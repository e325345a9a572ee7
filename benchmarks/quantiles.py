"""Rank error of quantiles at one price: OpenDP's selection, and noisy counts in steps.

    python benchmarks/quantiles.py

Results and what follows from them: docs/design/0007-quantiles.md.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import opendp.prelude as dp
import polars as pl
from opendp.extras.polars import Bound, Margin

from dpanalytics.query.margins import quantile_interval
from dpanalytics.query.mechanism import GROUP, NoisySum, NoisySums, build, unit_rho

RHO = 0.008
LEVELS = (0.25, 0.5, 0.75)
RUNS = 300
EVERYBODY = pl.Enum(["all"])


def scores(size: int, random: np.random.Generator) -> np.ndarray:
    """Marks of 0 to 100: most pass, a twelfth hand in nothing."""
    marks = np.where(random.random(size) < 1 / 12, 0, random.normal(66, 17, size))
    return np.clip(np.rint(marks), 0, 100).astype(np.int64)


def clicks(size: int, random: np.random.Generator) -> np.ndarray:
    """Clicks of a year, 0 to 10,000 with a long tail."""
    return np.clip(np.rint(random.lognormal(6.3, 1.1, size)), 0, 10_000).astype(np.int64)


def rank_error(values: np.ndarray, answer: float, level: float) -> float:
    """How far from `level` the share of students at the answer is; ties count as hit."""
    whole = round(answer)
    return max(0.0, (values < whole).mean() - level, level - (values <= whole).mean())


def by_selection(
    values: np.ndarray, candidates: Sequence[int], levels: int
) -> Callable[[float], float]:
    """OpenDP's quantile at an equal share of the price for every level asked."""
    dp.enable_features("contrib")
    schema = {"g": EVERYBODY, "v": pl.Int64()}
    domain = dp.with_margin(
        dp.lazyframe_domain(
            [
                dp.series_domain("g", dp.enum_domain(EVERYBODY.categories)),
                dp.series_domain("v", dp.atom_domain(T="i64")),
            ]
        ),
        Margin(by=["g"], max_length=10**8),
    )
    metric, distance = dp.unit_of(contributions=[Bound(by=["g"], per_group=1, num_groups=1)])
    keys = pl.LazyFrame({"g": ["all"]}, schema={"g": EVERYBODY})
    rows = pl.LazyFrame({"g": ["all"] * values.size, "v": values}, schema=schema)

    @functools.cache
    def measurement(level: float, scale: float) -> Any:
        chosen = pl.col("v").dp.quantile(level, list(candidates), scale=scale).alias("q")
        plan = pl.LazyFrame(schema=schema).group_by("g").agg(chosen)
        keyed = keys.join(plan, on=["g"], how="left", nulls_equal=True)
        return dp.m.make_private_lazyframe(domain, metric, dp.zero_concentrated_divergence(), keyed)

    def answer(level: float) -> float:
        scale = math.sqrt(measurement(level, 1.0).map(distance) / (RHO / levels)) * (1 + 1e-9)
        built = measurement(level, scale)
        assert built.map(distance) <= RHO / levels
        return float(built(rows).collect()["q"].item())

    return answer


def counted(values: np.ndarray, top: int, step: int) -> tuple[list[list[int]], list[float], float]:
    """Noisy counts by step of every run, the edges of the steps, and the scale of the noise."""
    starts = list(range(0, top + 1, step))
    items = [str(start) for start in starts]
    keys = pl.DataFrame({"item": items}, schema={"item": pl.Enum(items)})
    scale = math.sqrt(unit_rho(None, 1) / RHO) * (1 + 1e-9)
    counting = build(NoisySums(keys, (NoisySum("n", None, scale),), 1))
    rows = pl.LazyFrame({GROUP: values // step}, schema={GROUP: pl.UInt64})
    edges = [*(start - 0.5 for start in starts), starts[-1] + step - 0.5]
    return [counting.run(rows)["n"].to_list() for _ in range(RUNS)], edges, scale


def report(name: str, values: np.ndarray, *, top: int, steps: Sequence[int], fine: int) -> None:
    """Print the rank error of each way, and of counts also the interval."""
    print(f"{name}, {values.size} students; rank error in points: mean (95 of 100 within)")
    candidates = range(0, top + 1, fine)
    one, three = (by_selection(values, candidates, n) for n in (1, len(LEVELS)))
    for level in LEVELS:
        for way, of in (("selection of one level", one), ("selection of three", three)):
            chosen = _shown([rank_error(values, of(level), level) for _ in range(RUNS)])
            print(f"  {level} {way}: {chosen}")
        true = float(np.quantile(values, level, method="inverted_cdf"))
        for step in steps:
            counts, edges, scale = counted(values, top, step)
            found = [quantile_interval(c, edges, level=level, scale=scale) for c in counts]
            covered = np.mean([i.low <= true <= i.high for i in found])
            width = np.median([i.high - i.low for i in found])
            errors = _shown([rank_error(values, i.estimate, level) for i in found])
            print(
                f"  {level} counts in {len(edges) - 1} steps: {errors}; true {true:g}, interval "
                f"{width:g} wide, held {100 * covered:.0f} of 100"
            )


def _shown(errors: Sequence[float]) -> str:
    return f"{100 * np.mean(errors):.1f} ({100 * np.quantile(errors, 0.95):.1f})"


if __name__ == "__main__":
    random = np.random.default_rng(2014)
    for students in (2000, 200):
        report("scores", scores(students, random), top=100, steps=(1, 5, 10), fine=1)
        report("clicks", clicks(students, random), top=10_000, steps=(100, 500), fine=10)

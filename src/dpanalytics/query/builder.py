"""Questions spelt in Python; what is built is exactly what JSON would say.

```python
question = (
    ask("enrolments", years=["2013/14"], purpose="quality-review")
    .where(module=["AAA", "BBB"])
    .group_by("module")
    .students()
    .rate(where={"outcome": ["Withdrawn"]})
    .spending(epsilon=0.5)
)
```
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from dpanalytics.query.request import Question, parse_question


@dataclass(frozen=True)
class QuestionBuilder:
    """A question in the making; every method returns a new one."""

    payload: dict[str, Any]

    def where(self, **filters: Sequence[str | int]) -> Self:
        """Keep these values of these dimensions."""
        kept = self.payload.get("filter", {}) | {
            n: [str(v) for v in vs] for n, vs in filters.items()
        }
        return self._with(filter=kept)

    def between(self, dimension: str, first: str | int, last: str | int) -> Self:
        """Keep a dimension's values from `first` to `last` in declared order, both included."""
        span = {"from": str(first), "to": str(last)}
        return self._with(filter=self.payload.get("filter", {}) | {dimension: span})

    def group_by(self, *dimensions: str) -> Self:
        """One group for every declared combination of these dimensions' values."""
        return self._with(group_by=[*self.payload.get("group_by", []), *dimensions])

    def students(self, **options: Any) -> Self:
        """How many students."""
        return self._metric("students", options)

    def sum(self, measure: str, **options: Any) -> Self:
        """Sum of a measure over students."""
        return self._metric("sum", {"measure": measure} | options)

    def mean(self, measure: str, **options: Any) -> Self:
        """Mean of a measure over students."""
        return self._metric("mean", {"measure": measure} | options)

    def rate(self, **condition: Any) -> Self:
        """Share of students: `where={...}`, or `measure=..., at_least=..., at_most=...`."""
        return self._metric("rate", condition)

    def quantile(self, measure: str, *levels: float, **options: Any) -> Self:
        """Values below which these shares of the students lie; quartiles by default."""
        chosen = {"levels": list(levels)} if levels else {}
        return self._metric("quantile", {"measure": measure} | chosen | options)

    def histogram(self, **of: Any) -> Self:
        """Students by `dimension=...`, or by `measure=..., cuts=[...]`."""
        return self._metric("histogram", of)

    def spending(self, *, epsilon: float) -> Question:
        """The question, offering this much budget.

        Raises:
            RequestError: the question is malformed.
        """
        return parse_question(self.payload | {"epsilon": epsilon})

    def as_accurate_as_asked(self, *, reference_group: int = 500) -> Question:
        """The question, with the margin asked for in every metric.

        Raises:
            RequestError: a metric has no margin, or the question is malformed.
        """
        return parse_question(self.payload | {"reference_group": reference_group})

    def _metric(self, name: str, options: dict[str, Any]) -> Self:
        return self._with(metrics=[*self.payload.get("metrics", []), {"metric": name} | options])

    def _with(self, **change: Any) -> Self:
        return replace(self, payload=self.payload | change)


def ask(view: str, *, years: Sequence[str], purpose: str) -> QuestionBuilder:
    """Begin a question about a view and some academic years, for a purpose."""
    return QuestionBuilder(
        {"view": view, "academic_years": list(years), "purpose": purpose, "metrics": []}
    )

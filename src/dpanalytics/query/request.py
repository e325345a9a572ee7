"""The language of questions: closed, small, and the only way to ask.

A question names a view, filters and groups by its dimensions, and lists metrics. It is compiled
here and in `plan.py`; no plan, expression or SQL is ever accepted from outside (gate 4).
Pure: nothing here reads a file or a row.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from dpanalytics.errors import RequestError, RequestMalformed
from dpanalytics.schema.view import MAX_DOMAIN, View

MAX_BINS = 500

LONGEST_MESSAGE = 600
"""In characters; what a question holds is quoted in refusals, and questions may be long."""

Finite = Annotated[Decimal, Field(allow_inf_nan=False, ge=-(10**9), le=10**9, max_digits=24)]
Margin = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]


def _is_share(margin: float) -> float:
    if margin >= 1:
        raise ValueError("a margin of a share is below 1: 0.02 is 2 percentage points")
    return margin


ShareMargin = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False, json_schema_extra={"exclusiveMaximum": 1}),
    AfterValidator(_is_share),
]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Span(_Wire):
    """Values of a dimension from one to another in its declared order, both included."""

    first: Text = Field(alias="from")
    last: Text = Field(alias="to")
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, coerce_numbers_to_str=True
    )


Values = Annotated[
    tuple[Annotated[Text, Field(coerce_numbers_to_str=True)], ...], Field(max_length=MAX_DOMAIN)
]
_SPAN, _VALUES = "a span", "a list"
"""Tags that tell the two apart; pydantic names them in the place of a fault."""


def _kind_of_filter(value: object) -> str | None:
    if isinstance(value, dict | Span):
        return _SPAN
    return _VALUES if isinstance(value, list | tuple) else None


Kept = Annotated[
    Annotated[Span, Tag(_SPAN)] | Annotated[Values, Tag(_VALUES)],
    Discriminator(
        _kind_of_filter,
        custom_error_type="kept_values",
        custom_error_message='give a list of values, or a span {"from": ..., "to": ...}',
    ),
]
Filter = dict[Text, Kept]
"""Dimension to the values that are kept: a list, or a span."""


class Students(_Wire):
    """How many students are in the group."""

    metric: Literal["students"] = "students"
    margin: Margin | None = None
    """Accuracy wanted, in students."""


class Sum(_Wire):
    """Sum over students of a measure, each student's value clipped to the bounds."""

    metric: Literal["sum"] = "sum"
    measure: Text
    bounds: tuple[Finite, Finite] | None = None
    """In the measure's unit; the view's own bounds by default."""
    margin: Margin | None = None
    """Accuracy wanted, in the measure's unit."""


class Mean(_Wire):
    """Mean over students of a measure, each student's value clipped to the bounds."""

    metric: Literal["mean"] = "mean"
    measure: Text
    bounds: tuple[Finite, Finite] | None = None
    margin: Margin | None = None
    """Accuracy wanted for a group of `reference_group` students, in the measure's unit."""


class Rate(_Wire):
    """Share of students with a row that has one of some dimension values, or a measure in a range.

    Either `where`, or `measure` with `at_least`, `at_most` or both.
    """

    metric: Literal["rate"] = "rate"
    where: Filter | None = None
    measure: Text | None = None
    at_least: Finite | None = None
    at_most: Finite | None = None
    margin: ShareMargin | None = None
    """Accuracy wanted for a group of `reference_group` students, as a share (0.02: 2 points)."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        limits = self.at_least is not None or self.at_most is not None
        if not (self.where if self.measure is None else limits and self.where is None):
            raise ValueError("a rate takes either where, or measure with at_least or at_most")
        if self.measure is None and limits:
            raise ValueError("at_least and at_most need a measure")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least must not be above at_most")
        return self


class Quantile(_Wire):
    """Values below which given shares of the students lie, from counts in steps of a measure."""

    metric: Literal["quantile"] = "quantile"
    measure: Text
    levels: tuple[Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)], ...] = Field(
        default=(0.25, 0.5, 0.75), min_length=1, max_length=20
    )
    bounds: tuple[Finite, Finite] | None = None
    step: Annotated[Finite, Field(gt=0)] | None = None
    """Width of a step in the measure's unit; a twentieth of the bounds by default."""
    margin: ShareMargin | None = None
    """Accuracy wanted for a group of `reference_group` students, as a share of them."""


class Histogram(_Wire):
    """Students by ranges of a measure, or by values of a dimension."""

    metric: Literal["histogram"] = "histogram"
    measure: Text | None = None
    cuts: tuple[Finite, ...] | None = Field(default=None, min_length=1, max_length=MAX_BINS - 1)
    """Rising inner edges, in the measure's unit: 40, 70 makes under 40, 40 to under 70, 70 up."""
    dimension: Text | None = None
    margin: Margin | None = None
    """Accuracy wanted, in students."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.dimension is None) == (self.measure is None):
            raise ValueError("a histogram takes either dimension, or measure with cuts")
        if (self.measure is None) != (self.cuts is None):
            raise ValueError("cuts belong to the histogram of a measure, which needs them")
        if self.cuts and any(a >= b for a, b in zip(self.cuts, self.cuts[1:], strict=False)):
            raise ValueError("cuts must rise")
        return self


_METRICS = (Students, Sum, Mean, Rate, Quantile, Histogram)
Metric = Annotated[
    Students | Sum | Mean | Rate | Quantile | Histogram, Field(discriminator="metric")
]


class Question(_Wire):
    """A question for the macro door, as it travels in JSON."""

    view: Text
    academic_years: tuple[Text, ...] = Field(min_length=1, max_length=50)
    purpose: Text
    filter: Filter = Field(default_factory=dict)
    group_by: tuple[Text, ...] = Field(default=(), max_length=8)
    metrics: tuple[Metric, ...] = Field(min_length=1, max_length=20)
    epsilon: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] | None = None
    """Budget offered, at the delta of the consumer's grant; or else a margin in every metric."""
    reference_group: Annotated[int, Field(ge=1, le=10**8)] = 500
    """Size of group for which margins of means, rates and quantiles are stated beforehand."""

    @model_validator(mode="after")
    def _budget_or_accuracy(self) -> Self:
        with_margin = sum(m.margin is not None for m in self.metrics)
        if self.epsilon is None and with_margin < len(self.metrics):
            raise ValueError("give epsilon, or else a margin in every metric")
        if self.epsilon is not None and with_margin:
            raise ValueError("give epsilon or margins, not both")
        return self


def parse_question(payload: object) -> Question:
    """The question in a JSON object.

    Raises:
        RequestError: with the place of every fault, what was got and what is allowed.
    """
    try:
        return Question.model_validate(payload)
    except ValueError as error:
        raise _refusal(error) from None


def parse_question_json(text: str | bytes) -> Question:
    """The question in JSON text.

    Raises:
        RequestError: as `parse_question`, also where the text is no JSON.
    """
    try:
        return Question.model_validate_json(text)
    except ValueError as error:
        raise _refusal(error) from None


def shortened(text: str, length: int = 60) -> str:
    """Text from outside, fit for a message: printable, and no longer than `length`."""
    plain = "".join(c if c.isprintable() else "?" for c in text[: length + 1])
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def _refusal(error: ValueError) -> RequestMalformed:
    if not isinstance(error, ValidationError):  # Python does not write out such a number
        rule = "holds a number of thousands of digits"
        return RequestMalformed(f"question refused: it {rule}", faults=(("question", rule),))
    found = _told_once(error.errors(include_url=False, include_context=False))
    told = "; ".join(_in_words(fault) for fault in found[:5])
    return RequestMalformed(
        shortened(f"question refused: {told}", LONGEST_MESSAGE),
        faults=tuple(place_and_rule(fault) for fault in found[:20]),
    )


def _told_once(faults: Iterable[Any]) -> list[Any]:
    """Faults without those that follow from another, and with the fields that there are.

    A list is found too short where its items are left out for faults of their own.
    """
    found = list(faults)
    inner = {fault["loc"][:n] for fault in found for n in range(len(fault["loc"]))}
    kept = [f for f in found if f["type"] != "too_short" or f["loc"] not in inner]
    for fault in kept:
        if fault["type"] == "extra_forbidden":
            fault["msg"] = f"No such field; allowed are {', '.join(_fields_at(fault['loc']))}"
    return kept


def _fields_at(place: tuple[int | str, ...]) -> list[str]:
    """The fields of the part of a question in which something lies."""
    model: type[BaseModel] = Span
    if len(place) == 1:
        model = Question
    elif place[0] == "metrics" and len(place) == 4:
        model = next(m for m in _METRICS if m.model_fields["metric"].default == place[2])
    return [field.alias or name for name, field in model.model_fields.items()]


def place_and_rule(fault: Any) -> tuple[str, str]:
    """Where a fault of pydantic's is and what rule it breaks, without what was got."""
    parts = [str(part) for part in fault["loc"] if part not in (_SPAN, _VALUES)]
    place = shortened(".".join(parts) or "question", 80)
    return place, shortened(fault["msg"].removeprefix("Value error, "), 160)


def _in_words(fault: Any) -> str:
    place, message = place_and_rule(fault)
    got = fault.get("input")
    short = isinstance(got, float | bool) or (isinstance(got, str) and len(got) < 50)
    short |= isinstance(got, int) and abs(got) < 10**50
    return f"{place}: {message[0].lower()}{message[1:]}{f' (got {got!r})' if short else ''}"


def chosen_values(filters: Filter, view: View) -> Mapping[str, tuple[str, ...]]:
    """The values that filters keep, per dimension, each in declared order.

    A filter that keeps a dimension's whole domain is left out, so that two spellings of one
    question become the same.

    Raises:
        RequestError: an unknown dimension or value, an empty list, or a span that runs backwards.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for name in sorted(filters):
        dimension = view.dimension(name)
        if dimension is None:
            raise RequestError(
                f"filter {shortened(name)!r}: no such dimension in view {view.name}; "
                f"it has {listed(dimension_names(view))}"
            )
        domain, wanted = dimension.domain, filters[name]
        ends = {wanted.first, wanted.last} if isinstance(wanted, Span) else set(wanted)
        if unknown := sorted(ends.difference(domain)):
            raise RequestError(
                f"filter {name!r}: {shortened(unknown[0])!r} is not one of its values; "
                f"allowed: {listed(domain)}"
            )
        if isinstance(wanted, Span):
            kept = domain[domain.index(wanted.first) : domain.index(wanted.last) + 1]
            if not kept:
                raise RequestError(
                    f"filter {name!r}: from {shortened(wanted.first)!r} must not come after to "
                    f"{shortened(wanted.last)!r} in the order of its values"
                )
        else:
            kept = tuple(value for value in domain if value in ends)
        if not kept:
            raise RequestError(f"filter {name!r} keeps no value; name at least one")
        if kept != domain:
            chosen[name] = kept
    return chosen


def dimension_names(view: View) -> tuple[str, ...]:
    """Names of all dimensions, the academic year first."""
    return ("academic_year", *(d.name for d in view.dimensions))


def listed(names: Sequence[str]) -> str:
    """The first dozen of some names, for a message."""
    shown = ", ".join(shortened(name, 30) for name in names[:12]) or "none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")

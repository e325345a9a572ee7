"""The rules that a declaration makes for values, applied to raw columns.

What is not exactly as the rules say is refused, row by row, and counted under the first rule that
the row breaks, in the declared order of the columns:

- text: one of the declared values, if there are any, after other spellings are put right; values
  to drop become missing (policy 4.4), whatever their case, and so do undeclared ones that speak of
  fees, debt, counselling or wellbeing;
- integer: an optional minus and digits, nothing else; decimal: the same, and a point and digits;
- date: YYYY-MM-DD; datetime: YYYY-MM-DDThh:mm:ss, a fraction or none, and Z or +hh:mm; the years
  1900 to 2199; fractions beyond the microsecond are cut off;
- boolean: true, yes, y, 1 or false, no, n, 0, in any case.

Reasons name the column and the rule, never a value. Pure, but for the numbers of students.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from itertools import chain

import polars as pl

from dpanalytics.ingest.tabular import RAW
from dpanalytics.schema.category import TAUGHT, value_tells_refused_category
from dpanalytics.schema.source import Column
from dpanalytics.vault.pseudonym import Pseudonymiser

_INTEGER = r"^-?[0-9]+$"
_DATE = r"^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}$"
_DATETIME = (
    r"^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
_NARROWED = (pl.Int64(), pl.Int32())
"""Types of whole numbers as read and as stored where declared bounds let them be narrower."""

_FEW_RUNS = 64
"""Runs of one text in a block, up to which values are made run by run."""

_YES, _NO = ("true", "yes", "y", "1"), ("false", "no", "n", "0")


@dataclass(frozen=True)
class Checked:
    """What a piece of a file comes to."""

    kept: pl.DataFrame
    refused: Mapping[str, int]
    """Rows refused, by reason."""

    @property
    def rows_read(self) -> int:
        """Rows kept and refused."""
        return self.kept.height + sum(self.refused.values())


@dataclass(frozen=True)
class _Rule:
    column: str
    form: str
    broken: pl.Expr
    leaves_null: bool = True
    """Whether a row that breaks it has no value, so that a column without nulls keeps it."""
    within: tuple[int, int] | None = None
    """Bounds, of whole numbers as they are stored: where all lie within, all keep it."""

    @property
    def reason(self) -> str:
        return f"{self.column}: {self.form}"

    def may_be_broken(self, frame: pl.DataFrame) -> bool:
        """Whether one look at all values together leaves it open that a row breaks it."""
        values = frame.get_column(self.column)
        if self.within is not None:
            least, most = values.min(), values.max()
            if not isinstance(least, int) or not isinstance(most, int):
                return False  # there are no values
            return least < self.within[0] or most > self.within[1]
        return not self.leaves_null or values.null_count() > 0


class Checker:
    """Judges raw columns of one source, and puts students' numbers in place of identifiers."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        missing: Sequence[str],
        schema: pl.Schema,
        pseudonymiser: Pseudonymiser | None,
    ) -> None:
        """Prepare.

        Args:
            columns: those that are stored, in the order of storage.
            missing: spellings of a missing value.
            schema: their types as stored; students by the pseudonymiser's numbers.
            pseudonymiser: of the identifier space; None if no column identifies a student.
        """
        self._columns = columns
        self._missing = tuple(missing)
        self._schema = schema
        self._pseudonymiser = pseudonymiser
        self._judgements: dict[tuple[str, pl.DataType], tuple[pl.Expr, list[_Rule]]] = {}

    def check(self, raw: pl.DataFrame) -> Checked:
        """Values of the rows that keep all rules, as stored, and the count of the others."""
        frame, rules = self._valued(raw)
        rules = [rule for rule in rules if rule.may_be_broken(frame)]
        broken = frame.select(r.broken.any().alias(str(n)) for n, r in enumerate(rules))
        met = [rule for rule, is_met in zip(rules, chain(*broken.rows()), strict=True) if is_met]
        if met:
            first = pl.coalesce(pl.when(r.broken).then(pl.lit(n)) for n, r in enumerate(met))
            frame = frame.with_columns(first.alias(RAW))
            counts = frame.get_column(RAW).drop_nulls().value_counts().sort(RAW)
            refused = {met[number].reason: count for number, count in counts.iter_rows()}
            frame = frame.filter(pl.col(RAW).is_null())
        else:
            refused = {}
        # Numbers are narrowed only now: refused ones may not have fitted.
        stored = [_cast(frame.get_column(name), dtype) for name, dtype in self._schema.items()]
        return Checked(pl.DataFrame(stored), refused)

    def _valued(self, raw: pl.DataFrame) -> tuple[pl.DataFrame, list[_Rule]]:
        """The raw columns with the values made of them beside, and the rules for the values.

        What needs no expression does without: each run of the engine takes time.
        """
        series, expressions, rules = [], [], []
        for column in self._columns:
            name, text = column.name, raw.get_column(RAW + column.name)
            value, its_rules = self._judgement(column, text.dtype)
            rules += its_rules
            if column.role == "student" and self._pseudonymiser is not None:
                series.append(self._pseudonymiser.numbers(text).alias(name))
            elif text.dtype != pl.String:
                series.append(text.alias(name))
            elif (
                isinstance(self._schema[name], pl.Enum)
                and (made := _of_runs(text, value)) is not None
            ):
                series.append(made)
            else:
                expressions.append(value)
        frame = raw.hstack(series)
        return (frame.with_columns(expressions) if expressions else frame), rules

    def _judgement(self, column: Column, found: pl.DataType) -> tuple[pl.Expr, list[_Rule]]:
        """As `_judged`, by name, and made once: making it for every block takes time."""
        made = self._judgements.get((column.name, found))
        if made is None:
            value, rules = self._judged(column, found)
            made = self._judgements[column.name, found] = value.alias(column.name), rules
        return made

    def _judged(self, column: Column, found: pl.DataType) -> tuple[pl.Expr, list[_Rule]]:
        """The value of a column, and the rules for it in their order."""
        raw, value = pl.col(RAW + column.name), pl.col(column.name)
        typed = found != pl.String
        missing = raw.is_null()
        for spelling in () if typed else self._missing:
            missing |= raw.eq_missing(pl.lit(spelling))
        rules = [] if column.optional else [_Rule(column.name, "missing", missing)]
        if column.role == "student":
            # A number is given to any spelling, that of a missing value too.
            blank = _Rule(column.name, "blank", value.is_null())
            return value, [replace(rule, leaves_null=typed) for rule in rules] + [blank]
        if typed:
            return raw, rules + _outside(column, value)
        if column.type == "text":
            made, dropped, form = _text(column, raw, self._schema[column.name])
            if dropped is not None and not column.optional:
                rules.append(_Rule(column.name, "speaks of what is never used (4.4)", dropped))
        else:
            made, form = _parsed(column, raw)
            dropped = None
        meaning = {*(column.values or self._missing), *column.spellings}
        if not meaning.isdisjoint(self._missing):
            # A spelling of a missing value wins, also where it could be a value (0, say).
            made = pl.when(~missing).then(made)
        if dropped is not None:
            made, missing = pl.when(~dropped).then(made), missing | dropped
        if form:
            rules.append(_Rule(column.name, form, value.is_null() & ~missing))
        return made, rules + _outside(column, value)


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    if values.dtype == dtype:
        return values
    # Nothing is left that can wrap; a cast that looks for it takes six times as long.
    return values.cast(dtype, wrap_numerical=(values.dtype, dtype) == _NARROWED)


def _of_runs(texts: pl.Series, value: pl.Expr) -> pl.Series | None:
    """The values of texts that stand in a few long runs, made once a run; None of others.

    Files are often sorted by what is chosen from a few values.
    """
    runs = texts.rle().struct
    lengths = runs.field("len")
    if not 0 < len(lengths) <= _FEW_RUNS:
        return None
    made = runs.field("value").alias(texts.name).to_frame().select(value).to_series()
    return pl.concat([made.new_from_index(n, length) for n, length in enumerate(lengths)])


def _text(
    column: Column, raw: pl.Expr, stored: pl.DataType
) -> tuple[pl.Expr, pl.Expr | None, str | None]:
    """The value of a text, whether it is one to drop, and what is said of one not declared."""
    text = raw.replace(column.spellings) if column.spellings else raw
    dropped = None
    if column.drop_values:
        unwanted = [value.strip().lower() for value in column.drop_values]
        dropped = text.str.strip_chars().str.to_lowercase().is_in(unwanted).fill_null(value=False)
    if isinstance(stored, pl.Enum):
        return text.cast(stored, strict=False), dropped, "not one of the declared values"
    if column.category not in TAUGHT and column.role != "student":
        telling = text.map_batches(_telling, return_dtype=pl.Boolean, is_elementwise=True)
        dropped = telling if dropped is None else dropped | telling
    return text, dropped, None


def _telling(texts: pl.Series) -> pl.Series:
    """Which of them speak of fees, debt, counselling or wellbeing (policy 4.4)."""
    told = [text for text in texts.unique().drop_nulls() if value_tells_refused_category(text)]
    return texts.is_in(told).fill_null(value=False)


def _parsed(column: Column, raw: pl.Expr) -> tuple[pl.Expr, str]:
    """The value of any other type, null where it is not spelled as it must be, and the rule."""
    match column.type:
        case "integer":
            return _where(raw, _INTEGER).cast(pl.Int64, strict=False), "not a whole number"
        case "decimal":
            digits = column.decimals or 0
            number = _where(raw, rf"^-?[0-9]+(\.[0-9]{{1,{digits}}})?$")
            fraction = number.str.extract(r"\.([0-9]+)$").fill_null("").str.pad_end(digits, "0")
            scaled = number.str.extract(r"^(-?[0-9]+)") + fraction
            form = f"not a number with at most {digits} decimals"
            return scaled.cast(pl.Int64, strict=False), form
        case "date":
            date = _where(raw, _DATE).str.to_date("%Y-%m-%d", strict=False)
            return date, "not a date as YYYY-MM-DD"
        case "datetime":
            return _moment(_where(raw, _DATETIME)), "not a moment with its zone as ISO 8601 has it"
        case _:
            word = raw.str.to_lowercase()
            answer = pl.when(word.is_in(_YES)).then(pl.lit(value=True))
            return answer.when(word.is_in(_NO)).then(pl.lit(value=False)), "neither yes nor no"


def _where(raw: pl.Expr, pattern: str) -> pl.Expr:
    """The text where it matches, else null."""
    return pl.when(raw.str.contains(pattern)).then(raw)


def _moment(text: pl.Expr) -> pl.Expr:
    """A moment in UTC, from text of the form of `_DATETIME`."""
    local = text.str.slice(0, 19).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)
    fraction = text.str.extract(r"\.([0-9]{1,6})").fill_null("").str.pad_end(6, "0")
    zone = pl.when(text.str.ends_with("Z")).then(pl.lit("+00:00")).otherwise(text.str.slice(-6))
    minutes = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(4, 2).cast(pl.Int64)
    ahead = pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes)
    moment = local + pl.duration(microseconds=fraction.cast(pl.Int64)) - pl.duration(minutes=ahead)
    return moment.dt.replace_time_zone("UTC")


def _outside(column: Column, value: pl.Expr) -> list[_Rule]:
    """The rule of bounds, or of earliest and latest; none where nothing is declared."""
    if column.bounds is not None:
        low, high = column.bounds
        scale = column.decimals or 0
        lowest, highest = math.ceil(low.scaleb(scale)), math.floor(high.scaleb(scale))
        broken = (value < lowest) | (value > highest)
        return [_Rule(column.name, f"outside {low} to {high}", broken, within=(lowest, highest))]
    first, last = column.earliest, column.latest
    if first is None and last is None:
        return []
    if column.type == "date":
        before, after = value < pl.lit(first), value > pl.lit(last)
    else:
        # Whole days in UTC, the last one included.
        before = value < pl.lit(first and datetime.combine(first, time.min, UTC))
        after = value > pl.lit(last and datetime.combine(last, time.max, UTC))
    broken = before.fill_null(value=False) | after.fill_null(value=False)
    form = f"outside {first or 'any'} to {last or 'any'}"
    return [_Rule(column.name, form, broken, leaves_null=False)]

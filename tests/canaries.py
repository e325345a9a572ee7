"""Declarations in which every leaf is a word, figure or day that stands nowhere else.

A page that shows a value shows its canary, wherever else on the page the shipped value may stand.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from pydantic import BaseModel

from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.sqlcheck import CheckedView

IDENTITY = ("name", "consumer", "scope")
"""Fields that a mapping of declarations has as its keys."""
Change = Callable[[str, Any], Any]
"""What a leaf becomes, by its place and value."""


class Canaries:
    """Makes values that differ from all others it made, each of the kind of a given one."""

    def __init__(self) -> None:
        self._number = count(1)
        self._fine = count(1)

    def of(self, value: Any) -> Any:
        """Another value in place of one."""
        if isinstance(value, float):  # epsilons are told to three digits, deltas as one in so many
            number = next(self._fine)
            return 1 / (200_000 + 7 * number) if value < 1e-3 else round(1 + number / 100, 2)
        number = next(self._number)
        if isinstance(value, date):
            return date(2100, 1, 1) + timedelta(days=number)
        if isinstance(value, (int, Decimal)):
            return type(value)(700_000 + number)
        if "@" in str(value) or str(value).startswith("https://"):
            return f"https://canary{number}.example"
        return f"canary{number}"


def changed(declared: Declarations, change: Change) -> Declarations:
    """Declarations with each leaf changed, unchecked; files and their digest stay."""
    fields = [f.name for f in dataclasses.fields(declared) if f.name not in ("files", "digest")]
    return replace(declared, **{n: _copy(getattr(declared, n), n, change) for n in fields})


def _copy(value: Any, place: str, change: Change) -> Any:
    if isinstance(value, CheckedView):
        return replace(value, view=_copy(value.view, place, change))
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        told = {name: _copy(getattr(value, name), f"{place}.{name}", change) for name in fields}
        return value.model_copy(update=told)
    if isinstance(value, Mapping):
        copies = {name: _copy(inner, f"{place}.{name}", change) for name, inner in value.items()}
        return {_key(name, copy): copy for name, copy in copies.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_copy(inner, f"{place}.{n}", change) for n, inner in enumerate(value))
    return change(place, value)


def _key(name: str, declared: Any) -> str:
    """The key under which a copy stands: as it is named, where it is named."""
    checked = declared.view if isinstance(declared, CheckedView) else declared
    return next((getattr(checked, each) for each in IDENTITY if hasattr(checked, each)), name)

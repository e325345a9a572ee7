"""Special category data in the stores: there while a case opens them, and gone after (policy 4.5).

What may be used is asked at every use, of the day; this is what lies on the disk. Nothing here
knows a key or an identity.
"""

from collections.abc import Collection, Mapping
from datetime import date

import polars as pl

from dpanalytics.schema.case import Case, opened_today, why_closed
from dpanalytics.schema.source import Source
from dpanalytics.schema.sqlcheck import CheckedView
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import SourceStore


def as_opened(source: Source, cases: Collection[Case], today: date) -> Source:
    """The declaration with those special category columns open that a case in force opens."""
    return source.with_opened(opened_today(cases, source.name, today))


def close_special(
    sources: Mapping[str, Source],
    views: Mapping[str, CheckedView],
    cases: Collection[Case],
    *,
    store: SourceStore,
    snapshots: SnapshotStore,
    agreed: pl.DataFrame,
    today: date,
) -> tuple[str, ...]:
    """Take out of the stores what no case in force opens, and values of who no longer agrees.

    Snapshots of a view go when it draws on a column that no case opens for it. What stays is as it
    was; to be given before each load, and with what is kept too long.

    Args:
        sources: All that are declared.
        views: All that are declared.
        cases: All that are declared.
        store: Where loads lie.
        snapshots: Where snapshots lie.
        agreed: Students who agreed to the use of special category data, in a column `student`.
        today: In UTC.

    Returns:
        Sources and views of which something was taken out.

    Raises:
        IngestError: a source is being loaded by another process, or can't be rewritten.
        SnapshotError: a view is being built by another process, or can't be removed.
    """
    closed = [
        name
        for name, checked in sorted(views.items())
        if why_closed(name, checked.special, cases, today=today) and snapshots.remove(name)
    ]
    narrowed = [
        name
        for name, source in sorted(sources.items())
        if store.narrow(as_opened(source, cases, today), agreed)
    ]
    return (*closed, *narrowed)

"""Tells the journal which programmes hold, so that an auditor sees which held when."""

from collections.abc import Mapping

from sqlalchemy import Connection

from dpanalytics.disclosure import caserows
from dpanalytics.disclosure.disclose import Journal
from dpanalytics.records.transactions import Records, driver_connection
from dpanalytics.schema.programme import Programme


def adopt_programmes(
    programmes: Mapping[str, Programme], *, records: Records, journal: Journal
) -> None:
    """Let these programmes hold from now on; what changed becomes entries, all or nothing.

    Raises:
        JournalError: the database refuses.
    """
    declared = {name: programme.digest for name, programme in programmes.items()}
    with records.reading() as connection:
        if caserows.programmes_in_force(connection) == declared:
            return
    with records.writing() as connection:
        held = caserows.programmes_in_force(connection)
        for name, programme in sorted(programmes.items()):
            if held.get(name) != programme.digest:
                _adopt(connection, programme, journal)
        for name in sorted(held.keys() - declared.keys()):
            entry = journal.append_within(
                driver_connection(connection), "programme_withdrawn", {"programme": name}
            )
            caserows.keep_programme(connection, name, held[name], entry=entry, withdrawn=True)


def _adopt(connection: Connection, programme: Programme, journal: Journal) -> None:
    entry = journal.append_within(
        driver_connection(connection),
        "programme",
        {
            "programme": programme.name,
            "programme_digest": programme.digest,
            "purpose": programme.purpose.value,
            "approved_by": programme.approved_by,
            "approved_on": programme.approved_on.isoformat(),
            "valid_until": programme.valid_until.isoformat(),
            "four_eyes": programme.four_eyes,
        },
    )
    caserows.keep_programme(connection, programme.name, programme.digest, entry=entry)

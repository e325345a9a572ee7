"""What becomes of the accounts when declarations are adopted; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dpanalytics.ledger.accounts import Account, cap_account, grant_account
from dpanalytics.ledger.entries import JSON, Kind
from dpanalytics.schema.budget import Caps, Consumer


class Declared(Protocol):
    """What the journal needs to know of the declarations."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over all files of declarations."""

    @property
    def consumers(self) -> Mapping[str, Consumer]:
        """Consumers with their grants, by name."""

    @property
    def caps(self) -> Caps:
        """Caps of all academic years."""


@dataclass(frozen=True)
class Change:
    """One account that is not as it is declared: the entry that says so, and what it alters."""

    kind: Kind
    payload: Mapping[str, JSON]
    account: Account
    """As declared; as it is held where it is withdrawn."""
    opens: bool
    """Whether there is no such account yet."""


def declared_accounts(declarations: Declared) -> tuple[Account, ...]:
    """The accounts that the declarations open, with nothing spent. Slow: it asks OpenDP."""
    caps = [cap_account(cap) for cap in declarations.caps.caps]
    grants = [
        grant_account(name, grant)
        for name, consumer in declarations.consumers.items()
        for grant in consumer.grants
    ]
    return (*caps, *grants)


def changes(declared: Iterable[Account], held: Iterable[Account]) -> tuple[Change, ...]:
    """What has to change for the accounts held to be those declared, in the order of their keys.

    A grant or cap that is no longer declared is withdrawn; what was spent stays spent.
    """
    wanted = {account.key: account for account in declared}
    there = {account.key: account for account in held}
    found = (_change(wanted.get(k), there.get(k)) for k in sorted(wanted.keys() | there.keys()))
    return tuple(change for change in found if change is not None)


def _change(declared: Account | None, held: Account | None) -> Change | None:
    if declared is None:
        if held is None or held.withdrawn:
            return None
        kind = Kind.CAP_WITHDRAWN if held.kind == "cap" else Kind.GRANT_WITHDRAWN
        return Change(kind, _names(held), held, opens=False)
    if held is not None and held.terms == declared.terms:
        return None
    payload: dict[str, JSON] = {
        **_names(declared),
        "epsilon": repr(declared.epsilon),
        "delta": repr(declared.delta),
        "approved_by": declared.approved_by,
        "cap": str(declared.cap.units),
    }
    if declared.valid_until is not None:
        payload["valid_until"] = declared.valid_until.isoformat()
    return Change(Kind(declared.kind), payload, declared, opens=held is None)


def _names(account: Account) -> dict[str, JSON]:
    if account.kind == "cap":
        return {"academic_year": account.academic_year}
    return {
        "academic_year": account.academic_year,
        "consumer": account.consumer,
        "view": account.view,
    }

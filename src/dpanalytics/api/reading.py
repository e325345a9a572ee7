"""Whose releases and budgets a person may read. Nothing here spends anything.

Who asks as a consumer reads what is its own. Auditors read the metadata of all releases; they,
the Data Protection Officer, data stewards and student representatives read every budget
(policy 2.4, 5.1).
"""

from collections.abc import Collection

from dpanalytics.access.principal import Principal, Role
from dpanalytics.errors import NotPermitted, RequestError

READERS_OF_BUDGETS = (
    Role.AUDITOR,
    Role.DATA_PROTECTION_OFFICER,
    Role.STEWARD,
    Role.REPRESENTATIVE,
)


def releases_seen_by(principal: Principal, named: str | None) -> frozenset[str] | None:
    """The consumers whose releases are listed; None for all of them.

    Args:
        principal: who asks.
        named: a consumer to which the list is narrowed.

    Raises:
        NotPermitted: none may be seen, or not those of the one that is named.
    """
    if principal.is_any_of(Role.AUDITOR):
        return None if named is None else frozenset({named})
    own = principal.consumers
    if not own:
        raise NotPermitted("this sign-in may see no releases")
    if named is None:
        return own
    if not principal.may_ask_as(named):
        raise NotPermitted(_own(named, own))
    return frozenset({named})


def budget_seen_by(principal: Principal, named: str | None, *, declared: Collection[str]) -> str:
    """The consumer whose budget is told.

    Raises:
        NotPermitted: it may not be seen.
        RequestError: several may be seen and none is named, or the one named is not declared.
    """
    own = principal.consumers
    every = principal.is_any_of(*READERS_OF_BUDGETS)
    if named is None and len(own) == 1:
        return next(iter(own))
    if not (own or every):
        raise NotPermitted("this sign-in may see no budget")
    if named is None:
        seen = declared if every else own
        raise RequestError(f"consumer is missing; name one of {', '.join(sorted(seen))}")
    if not (every or named in own):
        raise NotPermitted(_own(named, own))
    if named not in declared:
        raise RequestError(
            f"no consumer {named[:80]!r}; declared are {', '.join(sorted(declared))}"
        )
    return named


def _own(named: str, own: Collection[str]) -> str:
    return f"consumer {named[:80]!r}; this sign-in may see those of {', '.join(sorted(own))}"

"""What a view over the register of consents may be: who agreed, and nothing else of a student.

Such a view holds students who refused, so that the share of those who agreed can be told at all.
It must not become a way to look at refusers: policy 2.6a leaves them out of what combines sources.
Pure.
"""

from collections.abc import Iterable, Sequence

from sqlglot import exp

from dpanalytics.schema.registers import AGREED
from dpanalytics.schema.sqlgrammar import refuse
from dpanalytics.schema.view import STUDENT, View

NEITHER = "neither"
"""What a student agreed to who has no row in the register."""


def check_agreement(
    view: View,
    select: exp.Select,
    register: str,
    *,
    students: Sequence[str],
    public: Sequence[str],
) -> None:
    """Refuse a view over the register of consents that could tell more than who agreed.

    Args:
        view: its declaration.
        select: its outermost query.
        register: the source that is the register of consents.
        students: all its sources of students' records.
        public: its public tables.

    Raises:
        DeclarationError: with the reason.
    """
    why = "so that nothing else is told of who refused (policy 2.6)"
    if len(students) != 2 or public:
        refuse(f"it joins {register} with one other source, {why}")
    if any(select.args.get(part) for part in ("with_", "where", "group", "having")):
        refuse(f"a view over {register} is one SELECT without WHERE or GROUP BY, {why}")
    joined = [join for join in select.args.get("joins") or () if _table(join.this)[0] == register]
    if len(joined) != 1 or joined[0].args.get("side") != "LEFT":
        refuse(f"it starts FROM the other source and takes {register} by LEFT JOIN")
    agreed = view.dimensions[0]
    if len(view.dimensions) > 1 or view.measures or not agreed.constant:
        refuse(f"a view over {register} has one dimension, constant, and no measure, {why}")
    if sorted(agreed.values or ()) != sorted((*AGREED, NEITHER)):
        refuse(f"dimension {agreed.name} has the values {', '.join((*AGREED, NEITHER))}")
    alias = _table(joined[0].this)[1]
    for node in select.expressions:
        columns = list(node.find_all(exp.Column))
        if node.alias_or_name == agreed.name and any(c.table != alias for c in columns):
            refuse(f"{agreed.name} is computed from columns of {alias} only, {why}")
        if node.alias_or_name == STUDENT and any(c.table == alias for c in columns):
            refuse(f"the student is taken from the other source than {register}")


def check_one_tells(views: Iterable[str]) -> None:
    """Refuse a second view that tells who agreed: there is one figure of a year.

    Raises:
        ValueError: with the names of both.
    """
    first, *others = sorted(views) or [""]
    if others:
        raise ValueError(f"{others[0]} and {first} both tell who agreed; one view does")


def _table(node: exp.Expr) -> tuple[str, str]:
    """Name of a joined table, and the name that it goes by."""
    return node.name, node.alias_or_name

"""A debit is refused by a cap past its last day, as it is by a grant; macro proves entries."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make it."""
    run_sql(op, __file__)

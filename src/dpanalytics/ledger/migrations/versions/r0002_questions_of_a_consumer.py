"""An index over the questions of a consumer, for lists of its releases."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make it."""
    run_sql(op, __file__)

"""The tables of the journal."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them; what a database held before is not touched."""
    run_sql(op, __file__)

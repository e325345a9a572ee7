"""Programmes in force, cases, and what was shown to whom."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make them."""
    run_sql(op, __file__)

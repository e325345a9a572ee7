"""Entries of requests of students and of their own access; stewards pay for coverage figures."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make it."""
    run_sql(op, __file__)

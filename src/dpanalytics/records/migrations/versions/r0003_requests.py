"""Requests of students, and who was told whose they are."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make them."""
    run_sql(op, __file__)

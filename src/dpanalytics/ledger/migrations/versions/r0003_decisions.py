"""Entries of decisions, programmes and disclosures, and the micro service's right to write them."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make it."""
    run_sql(op, __file__)

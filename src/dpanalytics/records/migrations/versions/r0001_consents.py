"""The register of consents, and the vault."""

from alembic import op

from dpanalytics.ledger.revisions import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them; a vault that is there already is not touched."""
    run_sql(op, __file__)

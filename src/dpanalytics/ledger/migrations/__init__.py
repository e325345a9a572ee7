"""Revisions of the journal's tables, one a file, each with its SQL for SQLite and PostgreSQL."""

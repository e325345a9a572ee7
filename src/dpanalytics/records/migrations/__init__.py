"""Revisions of register and vault, one a file, each with its SQL for SQLite and PostgreSQL."""

"""The database schema, as Alembic revisions."""

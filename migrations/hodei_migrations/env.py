"""Run by Alembic. The engine is handed in by `hodei_server.db.schema_version`."""

from alembic import context

from hodei_server.db.schema import metadata


def run() -> None:
    """Migrate over the given engine."""
    with context.config.attributes["engine"].connect() as connection:
        writer = connection.execution_options(hodei_writer=True)
        context.configure(connection=writer, target_metadata=metadata, render_as_batch=True, compare_type=True)
        with context.begin_transaction():
            context.run_migrations()
        writer.commit()


run()

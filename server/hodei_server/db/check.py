"""``python -m hodei_server.db.check``: the migrations make exactly the tables of `hodei_server.db.schema`.

Looks at SQLite in a temporary folder, and at the PostgreSQL of HODEI_TEST_DATABASE_URL where that is set. With
``--revision MESSAGE`` it writes a new revision instead.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from hodei_server.db.engine import open_engine
from hodei_server.db.schema import metadata
from hodei_server.db.schema_version import _config, upgrade


def differences(engine: Engine) -> list[object]:
    """Return what autogenerate would still change in an upgraded database."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def main() -> int:
    """Check; return 1 when there is a difference."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite = open_engine(f"sqlite:///{Path(folder) / 'check.db'}")
        if "--revision" in sys.argv:
            upgrade(sqlite)
            command.revision(_config(sqlite), sys.argv[sys.argv.index("--revision") + 1], autogenerate=True)
            return 0
        engines = [("SQLite", sqlite)]
        url = os.environ.get("HODEI_TEST_DATABASE_URL")
        if url:
            postgres = open_engine(url)
            with postgres.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
            engines.append(("PostgreSQL", postgres))
        failed = False
        for name, engine in engines:
            upgrade(engine)
            found = differences(engine)
            failed = failed or bool(found)
            sys.stdout.write(f"{name}: {found or 'the migrations make the tables'}\n")
            engine.dispose()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

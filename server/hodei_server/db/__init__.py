"""State in the database: tables, the writer, moves and queries."""

"""What alembic runs: database.py hands it an open connection.

A new migration: change tables.py, copy the last file of versions/, and write the step by hand; tests/gateway/test_database.py
compares what the migrations make with tables.py.
"""

from __future__ import annotations

from alembic import context

from jhssh_ext.gateway.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters no columns in place
)
with context.begin_transaction():
    context.run_migrations()

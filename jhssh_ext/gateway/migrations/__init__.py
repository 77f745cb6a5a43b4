"""Alembic's migrations of the gateway's database, run by the gateway itself when it starts."""

"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("code_digest", sa.String(length=64), nullable=False),
        sa.Column("login_name", sa.String(length=255), nullable=False),
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("server_name", sa.String(length=255), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("offered", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("number_digest", sa.String(length=64), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code_digest"),
    )
    op.create_index(op.f("ix_approvals_network"), "approvals", ["network"], unique=False)
    op.create_index(op.f("ix_approvals_expires"), "approvals", ["expires"], unique=False)
    op.create_index(op.f("ix_approvals_user_name"), "approvals", ["user_name"], unique=False)
    op.create_table(
        "key_copies",
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("server_name", sa.String(length=255), nullable=False),
        sa.Column("user_created", sa.String(length=64), nullable=False),
        sa.Column("spawn", sa.String(length=64), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("checked", sa.Float(), nullable=False),
        sa.Column("confirmed", sa.Float(), nullable=False),
        sa.Column("public_keys", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "user_name", "server_name"),
    )
    op.create_table(
        "key_uses",
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("user_name", "fingerprint"),
    )
    op.create_table(
        "nonces",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=255), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index(op.f("ix_nonces_expires"), "nonces", ["expires"], unique=False)
    op.create_index(op.f("ix_nonces_user_name"), "nonces", ["user_name"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("server_name", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.Column("from_client", sa.BigInteger(), nullable=False),
        sa.Column("from_server", sa.BigInteger(), nullable=False),
        sa.Column("ending", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_sessions_seen"), "sessions", ["seen"], unique=False)
    op.create_index("ix_sessions_user", "sessions", ["user_name", "server_name"], unique=False)
    op.create_table(
        "user_keys",
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("user_created", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("comment", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("added", sa.Float(), nullable=False),
        sa.Column("renewed", sa.Float(), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_name", "fingerprint"),
    )


def downgrade() -> None:
    op.drop_table("user_keys")
    op.drop_index("ix_sessions_user", table_name="sessions")
    op.drop_index(op.f("ix_sessions_seen"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_index(op.f("ix_nonces_user_name"), table_name="nonces")
    op.drop_index(op.f("ix_nonces_expires"), table_name="nonces")
    op.drop_table("nonces")
    op.drop_table("key_uses")
    op.drop_table("key_copies")
    op.drop_index(op.f("ix_approvals_user_name"), table_name="approvals")
    op.drop_index(op.f("ix_approvals_expires"), table_name="approvals")
    op.drop_index(op.f("ix_approvals_network"), table_name="approvals")
    op.drop_table("approvals")

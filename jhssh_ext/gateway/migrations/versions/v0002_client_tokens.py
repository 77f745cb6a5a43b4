"""Tokens of the ``jhssh`` command, and how it asks for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With defaults: a gateway of the version before may run beside this one for a while.
    with op.batch_alter_table("approvals") as approvals:
        approvals.add_column(sa.Column("handle_digest", sa.String(length=64), server_default="", nullable=False))
        approvals.add_column(sa.Column("client", sa.String(length=255), server_default="", nullable=False))
        approvals.add_column(sa.Column("user_created", sa.String(length=64), server_default="", nullable=False))
        approvals.add_column(sa.Column("by_proxy", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(op.f("ix_approvals_handle_digest"), "approvals", ["handle_digest"], unique=False)
    op.create_table(
        "client_tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=255), nullable=False),
        sa.Column("user_created", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index(op.f("ix_client_tokens_user_name"), "client_tokens", ["user_name"], unique=False)
    op.create_index(op.f("ix_client_tokens_expires"), "client_tokens", ["expires"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_client_tokens_expires"), table_name="client_tokens")
    op.drop_index(op.f("ix_client_tokens_user_name"), table_name="client_tokens")
    op.drop_table("client_tokens")
    op.drop_index(op.f("ix_approvals_handle_digest"), table_name="approvals")
    with op.batch_alter_table("approvals") as approvals:
        approvals.drop_column("by_proxy")
        approvals.drop_column("user_created")
        approvals.drop_column("client")
        approvals.drop_column("handle_digest")

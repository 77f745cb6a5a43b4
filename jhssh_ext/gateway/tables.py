"""What the gateway remembers, as SQLAlchemy tables. Times are seconds since 1970 (UTC); names are at most 255 characters.

Nothing here opens anything by itself: keys are public, codes and nonces are kept as digests and work once.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME = String(255)
FINGERPRINT = String(64)


class Base(DeclarativeBase):
    """All tables; migrations/ makes and changes them."""


class KeyCopy(Base):
    """The copy of one user server's key store, or of a user's keys elsewhere (then for the default server alone)."""

    __tablename__ = "key_copies"

    source: Mapped[str] = mapped_column(String(128), primary_key=True)
    """KeySource.name of where the keys are kept"""
    user: Mapped[str] = mapped_column("user_name", NAME, primary_key=True)
    server: Mapped[str] = mapped_column("server_name", NAME, primary_key=True)
    user_created: Mapped[str] = mapped_column(String(64))
    """the Hub's "created" of that user when it was asked last; empty: unknown"""
    spawn: Mapped[str] = mapped_column(String(64))
    """the spawn that was asked last (ServerState.spawn)"""
    changes: Mapped[int] = mapped_column(BigInteger)
    """how often it was told that the keys have changed: an answer to a question from before counts for nothing"""
    checked: Mapped[float] = mapped_column(Float)
    """when the copy was known to be right; 0: it counts for nothing until it is fetched anew"""
    confirmed: Mapped[float] = mapped_column(Float)
    """when the keys were last given by where they are kept: bounds for how long they start a stopped server"""
    keys: Mapped[str] = mapped_column("public_keys", Text)
    """lines "type base64", one a key, sorted"""


class UserKey(Base):
    """A key that a user keeps on the gateway's page: it opens all of that user's servers."""

    __tablename__ = "user_keys"

    user: Mapped[str] = mapped_column("user_name", NAME, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(FINGERPRINT, primary_key=True)
    user_created: Mapped[str] = mapped_column(String(64))
    """the Hub's "created" of that user: a user of the same name made later is another one"""
    public_key: Mapped[str] = mapped_column(Text)
    """line "type base64" """
    comment: Mapped[str] = mapped_column(NAME)
    source: Mapped[str] = mapped_column(String(32))
    """page | approval | client (added by the ``jhssh`` command)"""
    added: Mapped[float] = mapped_column(Float)
    renewed: Mapped[float] = mapped_column(Float)
    """when it was added, or last confirmed in the browser (key_max_age)"""
    announced: Mapped[bool] = mapped_column(Boolean)
    """was the user told at a login without a key, as one is of keys that were not added on the page"""


class KeyUse(Base):
    """When a key last opened a server."""

    __tablename__ = "key_uses"

    user: Mapped[str] = mapped_column("user_name", NAME, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(FINGERPRINT, primary_key=True)
    used: Mapped[float] = mapped_column(Float)
    address: Mapped[str] = mapped_column(String(64))


class Approval(Base):
    """An SSH connection, or a ``jhssh login``, that waits for its user's approval in the browser.

    Deleted when it has ended, or another asks.
    """

    __tablename__ = "approvals"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """random: part of a page's address, and worth nothing by itself"""
    code_digest: Mapped[str] = mapped_column(String(64), unique=True)
    login_name: Mapped[str] = mapped_column(NAME)
    """as the client sent it; empty for a ``jhssh login``, which is whose user types its code"""
    user: Mapped[str] = mapped_column("user_name", NAME, index=True)
    """whom the login name may mean; from claimed on: the Hub user who typed the code"""
    server: Mapped[str] = mapped_column("server_name", NAME)
    """from claimed on: which of their servers the login name means"""
    network: Mapped[str] = mapped_column(String(64), index=True)
    """what counts as one address of SSH clients (addresses.network_of)"""
    address: Mapped[str] = mapped_column(String(64))
    """of the SSH client"""
    offered: Mapped[str] = mapped_column(Text)
    """keys that the client offered, lines "type base64": anybody can offer any key"""
    state: Mapped[str] = mapped_column(String(16))
    """waiting | claimed (its code was typed) | approved | number (approved, the number is to be typed) | denied |
    entered (it went on; its keys may still be remembered)"""
    number_digest: Mapped[str] = mapped_column(String(64))
    tries: Mapped[int] = mapped_column(Integer)
    """numbers typed so far"""
    created: Mapped[float] = mapped_column(Float)
    seen: Mapped[float] = mapped_column(Float)
    """when its gateway last said that the connection waits, or a ``jhssh login`` asked"""
    expires: Mapped[float] = mapped_column(Float, index=True)
    handle_digest: Mapped[str] = mapped_column(String(64), default="", server_default="", index=True)
    """of the secret by which a ``jhssh login`` asks; empty for SSH connections"""
    client: Mapped[str] = mapped_column(NAME, default="", server_default="")
    """what a ``jhssh login`` says that it is"""
    user_created: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """the Hub's "created" of the user who approved a ``jhssh login``"""
    by_proxy: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """the address is what a proxy says of the client, not the peer of its connection"""


class ClientToken(Base):
    """A token of the ``jhssh`` command: good for this gateway's API alone, for one user."""

    __tablename__ = "client_tokens"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """random: what the page calls it by"""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the token, which has 256 random bits"""
    user: Mapped[str] = mapped_column("user_name", NAME, index=True)
    user_created: Mapped[str] = mapped_column(String(64))
    """the Hub's "created" of that user: a user of the same name made later is another one"""
    client: Mapped[str] = mapped_column(NAME)
    """what asked for it, as it says itself"""
    address: Mapped[str] = mapped_column(String(64))
    """from where it was asked for; empty: not known"""
    created: Mapped[float] = mapped_column(Float)
    expires: Mapped[float] = mapped_column(Float, index=True)
    used: Mapped[float] = mapped_column(Float)
    """when it was last used, to the minute"""


class Nonce(Base):
    """What a form carries so that it works once, for one user and one purpose. Deleted when it is used, or another is made."""

    __tablename__ = "nonces"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column("user_name", NAME, index=True)
    purpose: Mapped[str] = mapped_column(String(255))
    expires: Mapped[float] = mapped_column(Float, index=True)


class OpenSession(Base):
    """One open connection, as the gateway that relays it tells the others."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    gateway: Mapped[str] = mapped_column(String(64))
    user: Mapped[str] = mapped_column("user_name", NAME)
    server: Mapped[str] = mapped_column("server_name", NAME)
    method: Mapped[str] = mapped_column(String(32))
    fingerprint: Mapped[str] = mapped_column(FINGERPRINT)
    address: Mapped[str] = mapped_column(String(64))
    since: Mapped[float] = mapped_column(Float)
    seen: Mapped[float] = mapped_column(Float, index=True)
    """when its gateway last said that it is open"""
    from_client: Mapped[int] = mapped_column(BigInteger)
    from_server: Mapped[int] = mapped_column(BigInteger)
    ending: Mapped[bool] = mapped_column(Boolean, default=False)
    """it was asked to end"""

    __table_args__ = (Index("ix_sessions_user", "user_name", "server_name"),)

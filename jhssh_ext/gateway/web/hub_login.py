"""Login of a browser by the Hub's OAuth, as of any service, but with nothing kept in memory: two gateways may share one login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from jupyterhub.services.auth import HubOAuth

STATE_MAX_AGE = 600
"""seconds that a person has to log in to the Hub"""


class HubLogin(HubOAuth):
    """``prefix`` is where the pages are, ``hub_path`` the Hub's path (/hub/), ``hub_host`` its origin if there are subdomains.

    ``callback``: address of LoginCallback where it has a host of its own.
    """

    def __init__(
        self, *, api_url: str, api_token: str, client_id: str, prefix: str, hub_path: str, hub_host: str, callback: str = ""
    ) -> None:
        super().__init__(
            api_url=api_url,
            api_token=api_token,
            oauth_client_id=client_id,
            base_url=prefix,
            oauth_redirect_uri=callback or f"{prefix}oauth_callback",
            hub_prefix=hub_path,
            hub_host=hub_host,
            # The pages are sandboxed, so that browsers take their own forms for another site's: only with SameSite=None do
            # cookies come with them (Chrome leaves out all others). What protects the forms are nonces.
            cookie_options={"samesite": "None", "secure": True},
        )
        self.cookie_secret = secret_for("cookies of the pages", api_token)
        self._states = Fernet(base64.urlsafe_b64encode(secret_for("states of logins", api_token)))

    # HubOAuth keeps these in a dict: here the state holds them itself, encrypted, and a signed cookie holds the state.

    def generate_state(self, next_url: str | None = None, **extra_state: str) -> str:
        return self._states.encrypt(json.dumps({"next_url": next_url, **extra_state}).encode("utf-8")).decode("ascii")

    def clear_oauth_state(self, state_id: str) -> None:
        """Nothing is kept."""

    def get_next_url(self, state_id: str = "", /) -> str:
        return str(self._state(state_id).get("next_url") or self.base_url)

    def get_code_verifier(self, state_id: str = "", /) -> str | None:
        found = self._state(state_id).get("code_verifier")
        return found if isinstance(found, str) else None

    def get_state_cookie_name(self, state_id: str = "", /) -> str:
        return str(self._state(state_id).get("cookie_name") or self.state_cookie_name)

    def _state(self, state_id: str) -> dict[str, Any]:
        try:
            found = json.loads(self._states.decrypt(state_id, ttl=STATE_MAX_AGE))
        except (InvalidToken, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def secret_for(purpose: str, api_token: str) -> bytes:
    """32 bytes, the same in all gateways of a Hub: they share the service's token."""
    return hmac.new(api_token.encode("utf-8"), b"jhssh " + purpose.encode("ascii"), hashlib.sha256).digest()

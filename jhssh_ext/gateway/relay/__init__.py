"""From here on bytes: what passes between a client and its user server."""

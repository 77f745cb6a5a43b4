"""Real parts for end-to-end tests: Hub, gateway, stock OpenSSH client, and eyes on processes."""

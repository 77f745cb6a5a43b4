"""Who knocks: the SSH server towards clients, and its limits."""

"""The way to their server: the Hub, and the SSH connection to the sshd of a user server."""

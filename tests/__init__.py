"""The tests; their folders mirror jhssh_ext."""

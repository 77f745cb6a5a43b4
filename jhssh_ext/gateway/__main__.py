"""``python -m jhssh_ext.gateway``: the same as ``jhssh-gateway``."""

from .app import main

main()

"""The ``jhssh`` command, on the user's computer. Standard library, websocket-client, and keyring where there is one."""

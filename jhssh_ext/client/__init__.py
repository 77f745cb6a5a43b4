"""The ``jhssh`` command, on the user's computer. Standard library, and keyring where there is one."""

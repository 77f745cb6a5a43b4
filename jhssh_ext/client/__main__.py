"""``python -m jhssh_ext.client``: the same as ``jhssh``."""

from .cli import main

raise SystemExit(main())

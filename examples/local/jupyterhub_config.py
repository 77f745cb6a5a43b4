"""A JupyterHub on one machine whose users come in by SSH too. All of jhssh's part is marked; copy that into a file of your own.

Once, beside this file:   jhssh-gateway keys init --dir jhssh-keys
Then:                     jupyterhub -f jupyterhub_config.py
Users type:               ssh -p 2222 <name>@hub.example.org
"""

import sys
from pathlib import Path

c = get_config()

# What your users see.
HUB_URL = "http://hub.example.org:8000/"
SSH_HOST = "hub.example.org"
SSH_PORT = 2222

# The Hub itself: users are accounts of this machine, so it runs as root.
c.JupyterHub.bind_url = "http://:8000"
c.Authenticator.allow_all = True

# ---- jhssh: from here on ----

KEYS = Path(__file__).resolve().parent / "jhssh-keys"  # made by `jhssh-gateway keys init`; for the Hub's account alone

# Spawner: "jhssh-local" is LocalProcessSpawner with SSH. For another one, mix SSHSpawnerMixin in: see docs/spawners.md.
c.JupyterHub.spawner_class = "jhssh-local"

# User servers let in whom the gateway's user CA vouches for. They get its public half; the private half is the gateway's alone.
c.SSHSpawnerMixin.ssh_user_ca_file = str(KEYS / "user_ca.pub")

# Who decides: "optional" (the user, by a checkbox where the Hub has an options form), "always" or "never".
c.SSHSpawnerMixin.ssh_policy = "optional"
c.SSHSpawnerMixin.ssh_default = True

# Shown by /user/<name>/jhssh/status.
c.SSHSpawnerMixin.ssh_public_host = SSH_HOST
c.SSHSpawnerMixin.ssh_public_port = SSH_PORT

# The gateway, started and stopped by the Hub. For a gateway that outlives restarts of the Hub see docs/admin.md.
c.JupyterHub.services = [
    {
        "name": "ssh",
        "url": "http://127.0.0.1:8099",
        "oauth_no_confirm": True,
        "command": [
            sys.executable,
            "-m",
            "jhssh_ext.gateway",
            f"--Gateway.keys_dir={KEYS}",
            f"--Gateway.ssh_port={SSH_PORT}",
            f"--Gateway.ssh_host={SSH_HOST}",
            f"--Gateway.public_url={HUB_URL}",
            # The Hub's own proxy, which says who comes through it. Others before it: see docs/admin.md.
            "--Gateway.trusted_proxies=127.0.0.1",
        ],
    }
]

# What the gateway may do at the Hub: see users and where their servers are, start these, report that they are used. No more.
# And who may open its page, /services/ssh/: every user.
c.JupyterHub.load_roles = [
    {
        "name": "jhssh-gateway",
        "services": ["ssh"],
        "scopes": ["list:users", "read:users", "read:servers", "admin:server_state", "servers", "users:activity"],
    },
    {"name": "user", "scopes": ["self", "access:services!service=ssh"]},
]

"""The demo's Hub: examples/local/jupyterhub_config.py on loopback, with any name and any password, and its own homes.

DEMO_* come from demo/__main__.py, which starts this Hub in the demo's folder.
"""

import os
import sys
from pathlib import Path

c = get_config()
load_subconfig(os.environ["DEMO_EXAMPLE"])

hub_url = f"http://127.0.0.1:{os.environ['DEMO_HUB_PORT']}"
c.JupyterHub.bind_url = hub_url
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ['DEMO_HUB_INNER_PORT']}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['DEMO_PROXY_PORT']}"
c.ConfigurableHTTPProxy.command = [os.environ["DEMO_PROXY"]]

# Any name, any password: for a demo on loopback, and for nothing else.
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.allow_named_servers = True

c.JupyterHub.spawner_class = "jhssh-simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(Path("home").resolve()) + "/{username}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab"
c.Spawner.env_keep = [*c.Spawner.get("env_keep", ["PATH", "LANG", "LC_ALL", "TZ"]), "DEMO_MARK"]

c.SSHSpawnerMixin.ssh_user_ca_file = f"{os.environ['DEMO_KEYS']}/user_ca.pub"
c.SSHSpawnerMixin.ssh_public_host = "127.0.0.1"
c.SSHSpawnerMixin.ssh_public_port = int(os.environ["DEMO_SSH_PORT"])

gateway = c.JupyterHub.services[0]
gateway["url"] = f"http://127.0.0.1:{os.environ['DEMO_GATEWAY_PORT']}"
gateway["environment"] = {"DEMO_MARK": os.environ["DEMO_MARK"]}
gateway["command"] = [
    *gateway["command"][:3],
    f"--Gateway.keys_dir={os.environ['DEMO_KEYS']}",
    "--Gateway.ssh_address=127.0.0.1",
    f"--Gateway.ssh_port={os.environ['DEMO_SSH_PORT']}",
    "--Gateway.ssh_host=127.0.0.1",
    f"--Gateway.public_url={hub_url}/",
]

# With this token the demo makes alice and her token.
c.JupyterHub.services.append({"name": "demo", "api_token": os.environ["DEMO_TOKEN"]})
c.JupyterHub.load_roles.append({"name": "demo", "services": ["demo"], "scopes": ["admin:users", "tokens", "inherit"]})

"""The settings of the sidecar, as traits.

Set as ``c.SSHKubeSpawner.<name>``; a profile's ``kubespawner_override`` may set them too.
"""

from __future__ import annotations

from traitlets import Bool, Dict, Enum, Unicode
from traitlets.config import Configurable


class SidecarSettings(Configurable):
    """What an admin says about the container that runs sshd beside the notebook's."""

    sidecar_image = Unicode(
        "",
        help="""The sidecar's image, made of `images/sidecar`. Without it, SSH stays off.""",
    ).tag(config=True)

    sidecar_image_pull_policy = Enum(
        ["", "Always", "IfNotPresent", "Never"],
        "",
        help="""When nodes pull it. Empty: as Kubernetes does, always for the tag `latest`, else if it is not there.""",
    ).tag(config=True)

    sidecar_native = Bool(
        False,
        help="""Run sshd as a native sidecar: an init container that goes on running. Needs Kubernetes 1.29 or later.

        It is then up before the notebook and ends after it. Older clusters drop the setting, and pods would never start.
        """,
    ).tag(config=True)

    sidecar_requests = Dict(
        {"cpu": "10m", "memory": "32Mi"},
        help="""What the scheduler keeps free for it, as Kubernetes quantities; also of the init container.""",
    ).tag(config=True)

    sidecar_limits = Dict(
        {"memory": "1Gi"},
        help="""What it may use at most, as Kubernetes quantities. What sessions run counts as the notebook's, not as this.

        A session takes 6 to 7 MiB of it, and a server has at most 100.
        """,
    ).tag(config=True)

    sidecar_home = Unicode(
        "",
        help="""The user's home in the notebook container, whose volumes sshd mounts too: it opens the Unix sockets there that
        users forward. Default: `HOME` in `KubeSpawner.environment`, else `working_dir`, else `/home`.
        """,
    ).tag(config=True)

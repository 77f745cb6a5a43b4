"""The sshd container of a user server's pod, and the session agent that starts its sessions in the notebook container.

``entrypoint`` sets sshd up, ``enter`` is sshd's forced command, ``agent`` runs in the notebook container: alone, so one file.

What a pod must have (``hub/pod_manifest.py`` builds it; the image is ``images/sidecar``)

One emptyDir, here called ``jhssh``. Nobody but the init container mounts all of it: the rest is mounted by ``subPath``.

==========  =========================  =========================  =====================================================
subPath     in ``notebook``            in ``sshd``                holds
==========  =========================  =========================  =====================================================
``lib``     /run/jhssh/lib, readOnly   not mounted                agent.py, start-agent, sftp-server with its loader
``run``     /run/jhssh/run             /run/jhssh/run, readOnly   agent.sock, the session agent's Unix socket
``tmp``     /run/jhssh/tmp, readOnly   /tmp                       sockets of forwarded SSH agents, made by sshd
``user``    /run/jhssh/user            /run/jhssh/user            ``$XDG_RUNTIME_DIR``: Unix sockets that are forwarded
==========  =========================  =========================  =====================================================

A second emptyDir (medium Memory, sizeLimit 1Mi), in ``sshd`` alone at /run/sidecar: sshd's files, the private host key among
them. The volumes of the user's home are mounted in ``sshd`` as in ``notebook`` (same paths, same subPaths).
Never so, however: a volume of the user's over, around or in what this image runs from, or where a link in another one leads.

Init container (this image, the notebook's uid and gid): args ``["install", "/run/jhssh"]``, ``jhssh`` mounted whole at
/run/jhssh. It makes the four folders.

Container ``sshd`` (this image, the notebook's uid, gid and supplemental groups; not uid 0): args ``["run"]``; root file system
read-only, all capabilities dropped, no service-account token. Its environment:

===========================  ==================================================================================================
JHSSH_HOST_KEY               private host key, OpenSSH format, Ed25519: in this container alone
JHSSH_USER_CA_KEYS           public keys of the gateway's user CAs, one line each
JHSSH_PRINCIPAL              the one principal that opens this server
JHSSH_LISTEN_PORT            TCP port; default 2222
JHSSH_LISTEN_ADDRESS         default: every address, IPv4 and IPv6
JHSSH_ACCOUNT                the account that sshd lets in, ``ServerState.user``; default ``jovyan``. Whatever the uid is, and
                             whatever the account is called in the notebook image: sessions see the notebook's own
===========================  ==================================================================================================

Container ``notebook``: ``XDG_RUNTIME_DIR=/run/jhssh/user``, unless the admin's environment has it, and
``lifecycle.postStart.exec.command = ["/bin/sh", "/run/jhssh/lib/start-agent"]``. An admin's own exec hook goes behind it,
``[…, "/run/jhssh/lib/start-agent", *their_command]``: it is run (exec) when the agent is started, and its status counts.
The agent finds the Jupyter server as the process that listens on the port of ``JUPYTERHUB_SERVICE_URL``.
The private host key must not be in this container's environment.

Both containers must run under one and the same user id, since each side checks the other's: where the manifest names none and
the cluster gives none (OpenShift does), set ``KubeSpawner.uid``.
Unix sockets can be forwarded where both containers see the same files: in the home and in ``$XDG_RUNTIME_DIR``. OpenSSH's sshd
has no rule for paths, so elsewhere its own open failure is all that it says; in its /tmp it would even listen, where nobody
looks. A refusal with a sentence is the gateway's to give.
The pod must not share one process namespace (``shareProcessNamespace``): the user could read sshd's memory.
sshd listens on the pod's address; only the gateway may reach it (NetworkPolicy).
"""

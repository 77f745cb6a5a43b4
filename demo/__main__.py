"""``python -m demo``: starts the demo's Hub in ``.demo/``, says what to type, and ends all of it on Ctrl-C.

Standard library only: the Hub is a child process. HUB_PORT and SSH_PORT choose the two public ports, all others are free ones.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("DEMO_FOLDER") or ROOT / ".demo").resolve()
START_TIMEOUT = 120.0
STOP_TIMEOUT = 40.0

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Ended(BaseException):
    """A signal asked us to end."""


def main() -> int:
    hub_port, ssh_port = port("HUB_PORT", 8000), port("SSH_PORT", 2222)
    for name, number in (("HUB_PORT", hub_port), ("SSH_PORT", ssh_port)):
        if not is_free(number):
            sys.exit(f"Port {number} is taken. Choose others: make demo HUB_PORT={free_port()} SSH_PORT={free_port()} ({name})")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    die_with_parent(signal.SIGTERM)
    hub: subprocess.Popen[bytes] | None = None
    mark = secrets.token_hex(8)
    folder = FOLDER / str(hub_port)
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    try:
        keys = make_keys()
        print("Starting JupyterHub and the SSH gateway …", flush=True)
        token = secrets.token_hex(16)
        hub = start_hub(folder, environment(hub_port, ssh_port, keys, mark, token))
        url = f"http://127.0.0.1:{hub_port}"
        wait_until_ready(hub, f"{url}/services/ssh/health", folder / "hub.log")
        tell(url, ssh_port, alice_token(url, token), fingerprint(keys / "host_key.pub"), folder)
        hub.wait()
        print(f"JupyterHub ended with {hub.returncode}; its log: {folder / 'hub.log'}")
        status = 1
    except Ended:
        print("\nStopping …", flush=True)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stop(hub, mark)
    return status


def end(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        sys.exit(f"{name} is no TCP port: {text!r}")
    return int(text)


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except PermissionError:
            sys.exit(f"Port {number} is not for this account. Choose one of 1024 or higher.")
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(number: signal.Signals) -> None:
    """prctl(2), PR_SET_PDEATHSIG: whoever kills our parent with -9 must not leave us running."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, int(number))


def make_keys() -> Path:
    """The gateway's keys, made once; two demos that start together make them one after the other."""
    keys = FOLDER / "keys"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [sys.executable, "-m", "jhssh_ext.gateway", "keys", "init", "--dir", str(keys)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
    return keys


def environment(hub_port: int, ssh_port: int, keys: Path, mark: str, token: str) -> dict[str, str]:
    """For the Hub; what a Jupyter server or a Hub around us set stays out."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTERHUB_", "JHSSH_", "JUPYTER_", "CONFIGPROXY_"))}
    beside = Path(sys.executable).parent
    return {
        **kept,
        "PATH": f"{beside}:{kept.get('PATH', os.defpath)}",
        "DEMO_EXAMPLE": str(ROOT / "examples/local/jupyterhub_config.py"),
        "DEMO_HUB_PORT": str(hub_port),
        "DEMO_SSH_PORT": str(ssh_port),
        "DEMO_HUB_INNER_PORT": str(free_port()),
        "DEMO_PROXY_PORT": str(free_port()),
        "DEMO_GATEWAY_PORT": str(free_port()),
        "DEMO_PROXY": shutil.which("configurable-http-proxy") or str(beside / "configurable-http-proxy"),
        "DEMO_KEYS": str(keys),
        "DEMO_MARK": mark,
        "DEMO_TOKEN": token,
    }


def start_hub(folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches us alone and we end it in order."""
    with (folder / "hub.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "demo/jupyterhub_config.py")],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )


def wait_until_ready(hub: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    answer = "no answer"
    while time.monotonic() < deadline:
        if hub.poll() is not None:
            sys.exit(f"JupyterHub ended with {hub.returncode}:\n{tail(log)}")
        try:
            with direct.open(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            answer = f"{error.code} {error.read(500).decode(errors='replace')}"
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"The SSH gateway is not ready ({answer}):\n{tail(log)}")


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def alice_token(url: str, token: str) -> str:
    """A token of alice for today, as she would make it on the Hub's Token page."""
    with contextlib.suppress(urllib.error.HTTPError):  # 409: she is there from an earlier demo
        post(f"{url}/hub/api/users/alice", token, {})
    return str(post(f"{url}/hub/api/users/alice/tokens", token, {"note": "make demo", "expires_in": 86400})["token"])


def post(url: str, token: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    with direct.open(request, timeout=30) as answer:
        return json.load(answer)


def fingerprint(public_key: Path) -> str:
    blob = base64.b64decode(public_key.read_text().split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def tell(url: str, ssh_port: int, token: str, host_key: str, folder: Path) -> None:
    print(
        f"""
JupyterHub   {url}   (log in with any name and any password)
SSH          127.0.0.1, port {ssh_port}

Type, in another terminal:

    ssh -p {ssh_port} alice@127.0.0.1

  "Are you sure you want to continue connecting?"  yes, if it shows {host_key}
  "Approve this login in your browser"             open the link, log in as alice, type the code and approve; the browser
                                                   shows a number to type into the terminal

Her server is started, and you are in it. Without a browser, with a token as password (others are made on {url}/hub/token):

    ssh -p {ssh_port} -o PreferredAuthentications=password alice@127.0.0.1

  "alice@127.0.0.1's password:"                    {token}

To come in with your key from now on (a new one: ssh-keygen -t ed25519), type this, and approve it in the same way:

    ssh-copy-id -p {ssh_port} alice@127.0.0.1

Then try:

    scp -P {ssh_port} README.md alice@127.0.0.1:
    rsync -a -e "ssh -p {ssh_port}" docs alice@127.0.0.1:
    ssh -p {ssh_port} -L 9999:localhost:9999 alice@127.0.0.1

Homes and the log are in {folder}
Ctrl-C ends the demo.
""",
        flush=True,
    )


def stop(hub: subprocess.Popen[bytes] | None, mark: str) -> None:
    """The Hub ends its servers, gateway and proxy itself; whatever is left of us after that is killed."""
    if hub is not None and hub.poll() is None:
        hub.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            hub.wait(STOP_TIMEOUT)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = ours(mark)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 5
        while ours(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
    if hub is not None:
        hub.wait()


def ours(mark: str) -> list[int]:
    """Processes of this demo, by the mark that they inherited; Linux only, elsewhere the Hub's own end has to do."""
    needle = f"DEMO_MARK={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if int(process.name) != os.getpid() and state != "Z" and needle in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


if __name__ == "__main__":
    sys.exit(main())

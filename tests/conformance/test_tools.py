"""What editors do: a script over standard input starts a server in the background, and forwarding leads to it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..harness.processes import free_port
from .client import Client, pipe
from .sockets import connect, echoes, reachable, socks5
from .waiting import end, wait_for

SERVER = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64
with Server(("127.0.0.1", 0), Echo) as server:
    print("listening on", server.server_address[1], flush=True)
    server.serve_forever()
"""

SCRIPT = """
folder="$HOME/.editor-server-@NAME@"
mkdir -p "$folder"
if [ ! -f "$folder/pid" ] || ! kill -0 "$(cat "$folder/pid")" 2>/dev/null; then
    cat > "$folder/server.py" <<'END'
@SERVER@
END
    @DETACH@ @PYTHON@ "$folder/server.py" @NAME@ > "$folder/log" 2>&1 < /dev/null &
    echo $! > "$folder/pid"
    started=yes
fi
while ! grep -q 'listening on' "$folder/log"; do sleep 0.05; done
echo "@NAME@: start"
echo "started==${started:-no}=="
echo "listeningOn==$(sed -n 's/listening on //p' "$folder/log")=="
echo "@NAME@: end"
"""


@pytest.mark.parametrize("detach", ["nohup", "setsid"])
def test_editor_server_over_standard_input(client: Client, detach: str) -> None:
    name = client.name()
    script = SCRIPT
    for mark, value in {"NAME": name, "SERVER": SERVER, "DETACH": detach, "PYTHON": sys.executable}.items():
        script = script.replace(f"@{mark}@", value)
    folder = client.target.home / f".editor-server-{name}"
    server = (sys.executable, f"{folder}/server.py", name)

    def connect_and_ask(*options: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
        running = client.start("bash", "-T", *options)
        pipe(running.stdin).write(script.encode())
        pipe(running.stdin).flush()
        lines = list(iter(pipe(running.stdout).readline, f"{name}: end\n".encode()))
        return running, dict(re.findall(r"(\w+)==(\w+)==", b"".join(lines).decode()))

    try:
        socks = free_port()
        first, answer = connect_and_ask("-D", f"127.0.0.1:{socks}")
        assert answer["started"] == "yes"
        port = int(answer["listeningOn"])
        wait_for(lambda: reachable(("127.0.0.1", socks)), "-D listens")
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: echoes(socks5(("127.0.0.1", socks), "localhost", port)), range(8)))
        first.send_signal(signal.SIGKILL)
        first.wait()

        local = free_port()
        _, answer = connect_and_ask("-L", f"127.0.0.1:{local}:127.0.0.1:{port}")
        assert answer == {"started": "no", "listeningOn": str(port)}
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: echoes(connect(("127.0.0.1", local))), range(8)))
    finally:
        end(*server)

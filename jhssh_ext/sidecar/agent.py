"""The session agent: starts shells, commands and the sftp-server in the notebook container, for the sshd beside it.

Run as ``python3 -IS agent.py /path/of/agent.sock`` with any Python since 3.8: standard library only, and nothing of the package.
What ``enter`` and the agent say to each other stands in ``enter.py``.
"""
# It runs in images of others: pathlib would cost a third of each session's start, and Python 3.8 is why some lines look old.

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import re
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import termios
import time
from typing import Dict, Iterator, List, NoReturn, Optional, Tuple

REQUEST_LIMIT = 1 << 20
REQUEST_TIMEOUT = 10.0
SERVER_TIMEOUT = 15.0
"""seconds in which a Jupyter server that is just starting may begin to listen"""
MAX_SESSIONS = 100
"""each costs the sidecar 6 MiB for enter and, with a connection of its own, about 1 for sshd: 700 of its limit of 1 GiB"""
MESSAGE = struct.Struct(">cI")
SFTP_COMMAND = "internal-sftp"
OURS = "JHSSH_"
FIRST_PAUSE = 0.1
PARENT_DIED = signal.SIGRTMIN + 7
SIGNALS = {int(getattr(signal, "SIG" + name)) for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM")}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
HERE = os.path.dirname(os.path.abspath(__file__))

Environment = Dict[str, str]


class Refused(Exception):
    """Why there is no session: a sentence for the user."""


# ---- the Jupyter server ----


def environment_of(pid: object) -> Environment:
    """As the process was started with (proc(5)). Raises OSError."""
    with open("/proc/%s/environ" % pid, "rb") as file:
        entries = file.read().decode("utf-8", "surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def listening_sockets(port: Optional[int]) -> set[str]:
    """Their inodes, as links in /proc/PID/fd name them; all ports if ``port`` is None."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open("/proc/self/net/" + table) as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A" and port in (None, int(fields[1].rpartition(":")[2], 16)):
                    found.add("socket:[%s]" % fields[9])
    return found


def holds(pid: int, sockets: set[str]) -> bool:
    folder = "/proc/%d/fd" % pid
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(folder + "/" + name) in sockets:
                    return True
    return False


def started(pid: int) -> int:
    """When, in clock ticks. Raises OSError."""
    with open("/proc/%d/stat" % pid, "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def jupyter_server(ours: Environment) -> Optional[int]:
    """The process that listens on the port that the Hub gave this container, whatever wrapped or restarted it.

    Where nothing here listens on it (another container of the pod may, as a proxy), the oldest process that listens on any port
    and has the Hub token that the container was given.
    """
    matched = re.search(r":(\d+)(?:/|$)", ours.get("JUPYTERHUB_SERVICE_URL", ""))
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                pids.append((started(int(name)), int(name)))
    pids.sort()
    if matched:
        sockets = listening_sockets(int(matched[1]))
        for _, pid in pids if sockets else []:
            if holds(pid, sockets):
                return pid
    token = ours.get("JUPYTERHUB_API_TOKEN")
    sockets = listening_sockets(None)
    for _, pid in pids if token else []:
        with contextlib.suppress(OSError):
            if environment_of(pid).get("JUPYTERHUB_API_TOKEN") == token and holds(pid, sockets):
                return pid
    return None


def wait_for_server(ours: Environment) -> int:
    deadline = time.monotonic() + SERVER_TIMEOUT
    while True:
        pid = jupyter_server(ours)
        if pid is not None:
            return pid
        if time.monotonic() > deadline:
            raise Refused("No Jupyter server runs in your container now. Try again in a moment, or restart your server.")
        time.sleep(0.25)


def server_environment(pid: int) -> Environment:
    """What a terminal in JupyterLab has: the server's environment, and what jupyter_server_terminals adds to it."""
    given = {name: value for name, value in environment_of(pid).items() if not name.startswith(OURS)}
    data = given.get("JUPYTER_DATA_DIR") or given.get("HOME", "") + "/.local/share/jupyter"
    runtime = given.get("JUPYTER_RUNTIME_DIR") or data + "/runtime"
    try:
        with open("%s/jpserver-%d.json" % (runtime, pid), encoding="utf-8") as file:
            about = json.loads(file.read(65536))
        given.update({"JUPYTER_SERVER_ROOT": str(about["root_dir"]), "JUPYTER_SERVER_URL": str(about["url"])})
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a server of another kind, or one that writes no such file
    return given


def status_of(pid: int) -> Dict[str, List[str]]:
    with open("/proc/%d/status" % pid, encoding="utf-8", errors="replace") as file:
        return {name: rest.split() for name, _, rest in (line.partition(":") for line in file)}


def become_like(pid: int) -> None:
    """Takes the limits, priority, umask and user of a process. What asks for more than we may stays as it is."""
    for name in (name for name in dir(resource) if name.startswith("RLIMIT_")):
        limit = getattr(resource, name)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, resource.prlimit(pid, limit))
    with contextlib.suppress(OSError), open("/proc/%d/oom_score_adj" % pid) as theirs:
        with open("/proc/self/oom_score_adj", "w") as own:
            own.write(theirs.read())
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
    status = status_of(pid)
    if "Umask" in status:
        os.umask(int(status["Umask"][0], 8))
    uid, gid = int(status["Uid"][1]), int(status["Gid"][1])
    if (uid, gid) != (os.geteuid(), os.getegid()):
        try:
            os.setgroups([int(group) for group in status["Groups"]])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError:
            raise Refused(
                "Your Jupyter server runs as another user than its container was started with. Tell your admin."
            ) from None


def change_folder(pid: int, environment: Environment) -> None:
    for candidate in ("/proc/%d/cwd" % pid, environment.get("HOME", ""), "/"):
        try:
            os.chdir(candidate)
            environment["PWD"] = os.getcwd()
        except OSError:
            continue
        return


# ---- messages: enter.py says what they mean ----


def receive(connection: socket.socket, limit: int = 0, descriptors: Optional[List[int]] = None) -> Tuple[bytes, int, bytes]:
    """Kind, number and text, of at most ``limit`` bytes. No kind: the other side is gone. Raises OSError, ValueError."""
    head = receive_exactly(connection, MESSAGE.size, descriptors)
    if not head:
        return b"", 0, b""
    kind, number = MESSAGE.unpack(head)
    if kind != b"r":
        return kind, number, b""
    if number > limit:
        raise ValueError("a request that is too long, or a second one")
    return kind, number, receive_exactly(connection, number, None)


def receive_exactly(connection: socket.socket, length: int, descriptors: Optional[List[int]]) -> bytes:
    data = b""
    while len(data) < length:
        part, ancillary, flags, _ = connection.recvmsg(length - len(data), socket.CMSG_SPACE(12), socket.MSG_CMSG_CLOEXEC)
        for level, what, content in ancillary:
            if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i", content[: len(content) // 4 * 4])
                if descriptors is None or len(descriptors) + len(found) > 3 or flags & socket.MSG_CTRUNC:
                    raise ValueError("too many descriptors")
                descriptors.extend(found)
        if not part:
            return b""
        data += part
    return data


def send(connection: socket.socket, kind: bytes, number: int, text: bytes = b"", descriptor: Optional[int] = None) -> None:
    rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    connection.sendmsg([MESSAGE.pack(kind, number) + text], rights)


def refuse(connection: socket.socket, sentence: str) -> None:
    with contextlib.suppress(OSError):
        text = sentence.encode("utf-8", "replace")
        send(connection, b"e", len(text), text)


class Request:
    """What ``enter`` asks for, parsed strictly. Raises ValueError, KeyError, TypeError."""

    def __init__(self, text: bytes) -> None:
        asked = json.loads(text.decode("ascii"))
        self.command: Optional[str] = asked["command"]
        self.terminal: bool = asked["terminal"]
        self.environment: Environment = asked["environment"]
        self.x11: List[str] = asked["x11"]
        strings = [*self.environment.items(), self.x11, [self.command or ""]]
        if any(not isinstance(each, str) or "\0" in each for group in strings for each in group):
            raise ValueError("a field has another type")
        if type(self.terminal) is not bool or len(self.x11) not in (0, 3):
            raise ValueError("something is missing")


# ---- one session ----


def program(command: Optional[str], environment: Environment) -> List[str]:
    if command == SFTP_COMMAND:
        return sftp_server(environment)
    shell = environment.get("SHELL", "")
    if not os.access(shell, os.X_OK):  # as jupyter_server_terminals chooses
        shell = shutil.which("sh", path=environment.get("PATH")) or "/bin/sh"
    return [shell, "-l"] if command is None else [shell, "-c", command]


def sftp_server(environment: Environment) -> List[str]:
    """Debian's, run by the loader that it came with: so it runs beside any libc, musl too."""
    own = HERE + "/sftp-server"
    loaders = [name for name in os.listdir(HERE) if name.startswith("ld-linux")] if os.path.exists(own) else []
    if not loaders:
        folders = "/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec"
        return [shutil.which("sftp-server", path=folders) or "sftp-server"]
    arguments = [HERE + "/" + loaders[0], "--library-path", HERE]
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:  # as on OpenShift; sftp-server runs for no user without an entry in /etc/passwd
        memory = os.memfd_create("passwd", 0)
        os.write(memory, b"user:x:%d:%d::/:/bin/sh\n" % (os.getuid(), os.getgid()))
        environment.update({"NSS_WRAPPER_PASSWD": "/proc/self/fd/%d" % memory, "NSS_WRAPPER_GROUP": "/etc/group"})
        arguments += ["--preload", HERE + "/libnss_wrapper.so"]
    return [*arguments, own]


def write_authority(path: str, x11: List[str]) -> None:
    """The X11 cookie as an Xauthority file (Xau(3)), as an image need not have xauth. FamilyWild: for every name of this host."""
    number, protocol, cookie = x11
    data = struct.pack(">H", 0xFFFF)
    for field in (b"", number.encode(), protocol.encode(), bytes.fromhex(cookie)):
        data += struct.pack(">H", len(field)) + field
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)


def execute(arguments: List[str], environment: Environment, streams: List[int], terminal: bool, parent: int) -> NoReturn:
    """In a new process: becomes the program."""
    try:
        os.setsid()
        if terminal:
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        else:  # nothing else would end it if its attendant were killed
            prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGHUP)
        signal.set_wakeup_fd(-1)
        for number in set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP, *range(32, signal.SIGRTMIN)}:
            signal.signal(number, signal.SIG_DFL)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.execvpe(arguments[0], arguments, environment)
    except OSError as error:
        os.write(2, ("%s: %s\r\n" % (arguments[0], error.strerror)).encode("utf-8", "surrogateescape"))
    finally:
        os._exit(127)


def attend(connection: socket.socket, ours: Environment, run_folder: str) -> None:
    """One session, in a process of its own, so that it does not end when the agent does. Raises Refused, OSError, ValueError."""
    wakes = wake_at([signal.SIGCHLD])
    connection.settimeout(REQUEST_TIMEOUT)
    kind, _, text = receive(connection, REQUEST_LIMIT)
    if kind != b"r":
        return
    request = Request(text)
    authority = "%s/xauth-%d" % (run_folder, os.getpid()) if request.x11 else ""
    server = wait_for_server(ours)
    become_like(server)
    environment = {**server_environment(server), **request.environment}
    change_folder(server, environment)
    if authority:
        write_authority(authority, request.x11)
        environment["XAUTHORITY"] = authority
    streams: List[int] = []
    if request.terminal:
        master, slave = os.openpty()
        environment["SSH_TTY"] = os.ttyname(slave)
        send(connection, b"m", 0, b"", master)
        os.close(master)
        streams = [slave] * 3
    else:
        send(connection, b"b", 0)
    if receive(connection, 0, None if request.terminal else streams)[0] != b"g" or len(streams) != 3:
        return
    arguments = program(request.command, environment)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        execute(arguments, environment, streams, request.terminal, parent)
    for descriptor in set(streams):
        os.close(descriptor)
    connection.settimeout(None)
    status = watch(connection, wakes, child, request.terminal)
    try:
        if status is not None and os.WIFSIGNALED(status):
            send(connection, b"s", os.WTERMSIG(status))
        elif status is not None:
            send(connection, b"x", os.WEXITSTATUS(status))
    finally:
        if authority:
            with contextlib.suppress(OSError):  # it is the session's to remove
                os.unlink(authority)


def watch(connection: socket.socket, wakes: int, child: int, terminal: bool) -> Optional[int]:
    """Until the child ends: its status; None where nobody is left to tell it to."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    there = True
    while True:
        events = dict(poll.poll())
        if wakes in events:
            os.read(wakes, 4096)
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status if there else None
        if connection.fileno() in events:
            try:
                kind, number, _ = receive(connection)
            except (OSError, ValueError):
                kind, number = b"", 0
            if kind == b"k" and number in SIGNALS:
                with contextlib.suppress(OSError):
                    os.killpg(child, number)
            else:
                there = False
                poll.unregister(connection)
                if terminal:  # enter held the other side of it, so the kernel hangs up
                    return None
                hang_up(child)


def hang_up(session: int) -> None:
    """As the kernel does to a terminal's session when its line drops. What called setsid(2) is in another session."""
    with contextlib.suppress(OSError):
        os.kill(session, signal.SIGHUP)  # it may not have begun its session yet; and from here on it starts nothing more
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(name)) == session:
                    if int(name) != session:
                        os.kill(int(name), signal.SIGHUP)
                    os.kill(int(name), signal.SIGCONT)


# ---- the agent ----


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


def wake_at(signals: List[int]) -> int:
    """A descriptor that can be read from when one of these signals has come."""
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return readable


def listen(path: str) -> socket.socket:
    """In one step takes the place of what an earlier agent, or anybody, left at ``path``."""
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(new)
    os.chmod(new, 0o600)
    if os.geteuid() == 0:
        os.chown(new, os.stat(os.path.dirname(path)).st_uid, -1)
    listener.listen(64)
    os.rename(new, path)
    return listener


def serve(path: str, ours: Environment, parent: int) -> NoReturn:
    run_folder = os.path.dirname(path)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    wakes = wake_at([signal.SIGCHLD, PARENT_DIED])
    listener = listen(path)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    sessions: set[int] = set()
    while os.getppid() == parent:
        events = dict(poll.poll(60000))
        if wakes in events:
            os.read(wakes, 4096)
        sessions.difference_update(reap())
        if listener.fileno() not in events:
            continue
        connection, _ = listener.accept()
        uid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (os.geteuid(), os.stat(run_folder).st_uid):
            log("refused user id %d" % uid)
        elif len(sessions) >= MAX_SESSIONS:
            refuse(connection, "Too many sessions are open on this server. End some and try again.")
        else:
            try:
                child = os.fork()
            except OSError as error:
                refuse(connection, "No process can be started on this server: %s." % error.strerror)
            else:
                if child == 0:
                    listener.close()
                    attend_or_refuse(connection, ours, run_folder)
                sessions.add(child)
        connection.close()
    os.execv(
        sys.executable, [sys.executable, "-IS", os.path.abspath(__file__), path]
    )  # what kept us alive is gone: be it ourselves


def attend_or_refuse(connection: socket.socket, ours: Environment, run_folder: str) -> NoReturn:
    try:
        attend(connection, ours, run_folder)
    except Refused as error:
        refuse(connection, str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log("a session ended: %r" % error)
        refuse(
            connection, "The session could not be started: %s." % (getattr(error, "strerror", None) or "the request is malformed")
        )
    finally:
        os._exit(0)


def reap() -> Iterator[int]:
    """All that have ended: sessions, and orphans that came to us, as a container's first process may not reap."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid = os.waitpid(-1, os.WNOHANG)[0]
            if pid == 0:
                return
            yield pid


def keep(path: str, ours: Environment) -> NoReturn:
    """Starts what serves, and again when it was killed."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent = os.getpid()
    pause = FIRST_PAUSE
    while True:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                serve(path, ours, parent)
            except OSError as error:
                log("cannot serve: %s" % error)
            finally:
                os._exit(1)
        while os.waitpid(-1, 0)[0] != child:
            pass
        pause = FIRST_PAUSE if time.monotonic() - begun > 60 else min(2 * pause, 5.0)
        time.sleep(pause)


def log(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, ("jhssh agent: %s\n" % sentence).encode("utf-8", "replace"))


def main(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            return  # one is here already
    with contextlib.suppress(OSError):
        os.setsid()
    os.umask(0o077)
    keep(path, environment_of("self"))


if __name__ == "__main__":
    main(sys.argv[1])

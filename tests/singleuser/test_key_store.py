from __future__ import annotations

import errno
import itertools
import os
import resource
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jhssh_ext import errors
from jhssh_ext.errors import KeyElsewhere, StoreUnusable
from jhssh_ext.public_keys import PublicKey
from jhssh_ext.singleuser import key_store
from jhssh_ext.singleuser.key_store import KeyStore

from .keys import new_line

ONE, TWO, THREE = new_line("one"), new_line("two"), new_line("three")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".ssh"


@pytest.fixture
def store(folder: Path) -> KeyStore:
    return KeyStore(folder / "jhssh_authorized_keys", folder / "authorized_keys", max_keys=30)


def lines(store: KeyStore) -> list[str]:
    return [stored.key.line for stored in store.read()[0]]


def test_begins_empty_and_makes_nothing_by_being_read(store: KeyStore, folder: Path) -> None:
    assert store.read() == ([], [])
    assert not folder.exists()


def test_adds_with_the_time_and_closes_file_and_folder_to_others(store: KeyStore, folder: Path) -> None:
    (added,) = store.add(ONE)
    assert added.key.line == ONE
    assert added.source == "jhssh_authorized_keys"
    assert added.added is not None
    assert added.added.endswith("Z")
    assert store.read() == ([added], [])
    assert stat.S_IMODE((folder / "jhssh_authorized_keys").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_open_folder_is_closed_to_others(store: KeyStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    store.add(ONE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_openssh_reads_the_file_as_authorized_keys(store: KeyStore, folder: Path) -> None:
    store.add(f"{ONE}\n{TWO}")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", folder / "jhssh_authorized_keys"], check=True, capture_output=True, text=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == [stored.key.fingerprint for stored in store.read()[0]]


def test_a_known_key_among_new_ones_is_no_fault_but_alone_it_is(store: KeyStore) -> None:
    store.add(ONE)
    assert [stored.key.line for stored in store.add(f"{ONE}\n{TWO}")] == [TWO]
    with pytest.raises(errors.KeyDuplicate):
        store.add(f"{TWO} with another comment")
    assert lines(store) == [ONE, TWO]


def test_all_or_nothing(store: KeyStore) -> None:
    with pytest.raises(errors.KeyMalformed) as caught:
        store.add(f"{ONE}\nrubbish")
    assert caught.value.line == 2
    assert lines(store) == []


def test_the_number_of_keys_is_bounded(folder: Path) -> None:
    store = KeyStore(folder / "keys", None, max_keys=2)
    store.add(ONE)
    with pytest.raises(errors.KeyTooMany):
        store.add(f"{TWO}\n{THREE}")
    assert lines(store) == [ONE]


def test_removes_one_key_and_its_time_and_nothing_else(store: KeyStore, folder: Path) -> None:
    store.add(f"{ONE}\n{TWO}")
    path = folder / "jhssh_authorized_keys"
    path.write_text(f"# mine, by hand\nno-pty {THREE}\n{path.read_text()}# the end")
    fingerprint = store.read()[0][0].key.fingerprint
    store.remove(fingerprint)
    assert lines(store) == [TWO]
    text = path.read_text()
    assert text.count("# added") == 1
    assert text.startswith(f"# mine, by hand\nno-pty {THREE}\n")
    assert text.endswith("# the end")
    with pytest.raises(errors.KeyUnknown):
        store.remove(fingerprint)


def test_what_was_written_by_hand_without_a_last_newline_stays_whole(store: KeyStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "jhssh_authorized_keys").write_text(ONE)
    store.add(TWO)
    assert lines(store) == [ONE, TWO]
    assert [stored.added is None for stored in store.read()[0]] == [True, False]


def test_the_other_file_counts_and_is_never_written(store: KeyStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    other = folder / "authorized_keys"
    other.write_text(f'{ONE}\ncommand="x" {TWO}\n# added 2020-01-01T00:00:00Z\nssh-dss AAAA\n')
    before = other.read_bytes(), other.stat().st_mtime_ns
    store.add(THREE)
    keys, ignored = store.read()
    assert [(stored.key.line, stored.source, stored.added is None) for stored in keys] == [
        (THREE, "jhssh_authorized_keys", False),
        (ONE, "authorized_keys", True),
    ]
    assert [(line.source, line.line, line.fingerprint is None) for line in ignored] == [
        ("authorized_keys", 2, False),
        ("authorized_keys", 4, True),
    ]
    with pytest.raises(errors.KeyDuplicate):
        store.add(ONE)
    with pytest.raises(KeyElsewhere):
        store.remove(keys[1].key.fingerprint)
    assert (other.read_bytes(), other.stat().st_mtime_ns) == before


def test_a_symbolic_link_is_replaced_and_what_it_names_is_left_alone(store: KeyStore, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious\n")
    (folder / "jhssh_authorized_keys").symlink_to(elsewhere)
    store.add(ONE)
    assert elsewhere.read_text() == "precious\n"
    assert not (folder / "jhssh_authorized_keys").is_symlink()
    assert lines(store) == [ONE]


@pytest.mark.parametrize("separator", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"])
def test_lines_end_where_sshd_ends_them(store: KeyStore, folder: Path, separator: str) -> None:
    folder.mkdir(parents=True)
    path = folder / "jhssh_authorized_keys"
    path.write_text(f"no-pty{separator}{TWO}\n# hers{separator}{TWO}\n{TWO}\n")
    store.remove(store.read()[0][0].key.fingerprint)
    assert path.read_text() == f"no-pty{separator}{TWO}\n# hers{separator}{TWO}\n"


def test_another_file_that_can_not_be_read_does_not_shut_the_store(store: KeyStore, folder: Path) -> None:
    store.add(ONE)
    (folder / "authorized_keys").mkdir()
    keys, ignored = store.read()
    assert [stored.key.line for stored in keys] == [ONE]
    assert [(line.source, line.line) for line in ignored] == [("authorized_keys", 0)]


@pytest.mark.parametrize("name", ["jhssh_authorized_keys", ".jhssh_authorized_keys.lock"])
def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(store: KeyStore, folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    if name.endswith(".lock"):
        assert [stored.key.line for stored in store.add(ONE)] == [ONE]
    else:
        with pytest.raises(StoreUnusable):
            store.read()


def test_a_lock_that_is_a_link_is_not_followed(store: KeyStore, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".jhssh_authorized_keys.lock").symlink_to(tmp_path / "made")
    with pytest.raises(StoreUnusable):
        store.add(ONE)
    assert not (tmp_path / "made").exists()


def test_binary_and_huge_files_are_bounded(store: KeyStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "authorized_keys").write_bytes(os.urandom(3 << 20) + b"\n" + ONE.encode())
    keys, ignored = store.read()
    assert keys == []
    assert 1 < len(ignored) <= 102
    assert ignored[0].reason.startswith("This file is too large")
    (folder / "jhssh_authorized_keys").write_bytes(b"#" * (2 << 20))
    with pytest.raises(StoreUnusable):
        store.add(ONE)


def test_the_store_never_grows_beyond_what_is_read(store: KeyStore, folder: Path) -> None:
    folder.mkdir(parents=True)
    path = folder / "jhssh_authorized_keys"
    path.write_bytes(b"#" * (key_store.MAX_FILE - 100) + b"\n")
    with pytest.raises(errors.KeyTooMany):
        store.add(ONE)
    assert path.stat().st_size == key_store.MAX_FILE - 99


def test_keys_of_the_other_file_do_not_count_towards_the_bound(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "authorized_keys").write_text(f"{ONE}\n{TWO}\n")
    store = KeyStore(folder / "keys", folder / "authorized_keys", max_keys=1)
    assert len(store.add(THREE)) == 1


def test_twenty_threads_lose_nothing(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_store, "LOCK_TIMEOUT", 120.0)  # some disks take a second to write a file
    offered = [new_line(f"key-{number}") for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(store.add, offered))
    assert sorted(lines(store)) == sorted(offered)


def test_two_processes_lose_nothing(store: KeyStore, folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from jhssh_ext.singleuser.key_store import KeyStore\n"
        f"store = KeyStore(Path({str(folder / 'jhssh_authorized_keys')!r}), None, max_keys=30)\n"
        "for line in sys.stdin: store.add(line)"
    )
    offered = [new_line(f"key-{number}") for number in range(20)]
    writers = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) for _ in range(2)]
    feeders = [
        threading.Thread(target=writer.communicate, args=["\n".join(offered[half::2])]) for half, writer in enumerate(writers)
    ]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(lines(store)) == sorted(offered)


def test_a_full_disk_keeps_the_old_store_and_leaves_nothing_behind(store: KeyStore, folder: Path) -> None:
    store.add(ONE)
    before = (folder / "jhssh_authorized_keys").read_bytes()
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from jhssh_ext import errors; from jhssh_ext.singleuser import key_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"store = key_store.KeyStore(Path({str(folder / 'jhssh_authorized_keys')!r}), None, max_keys=30)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"try: store.add({TWO!r})\n"
        "except errors.StoreUnusable as error: print(error.sentence)"
    )
    shown = subprocess.run([sys.executable, "-B", "-c", program], check=True, capture_output=True, text=True).stdout
    assert "Nothing was changed" in shown
    assert (folder / "jhssh_authorized_keys").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [".jhssh_authorized_keys.lock", "jhssh_authorized_keys"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100


@pytest.mark.parametrize("call", ["fsync", "mkstemp"])
def test_any_failure_to_write_keeps_the_old_store(
    store: KeyStore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.add(ONE)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(key_store.os if call == "fsync" else key_store.tempfile, call, full)
    with pytest.raises(StoreUnusable, match="No space left"):
        store.add(TWO)
    monkeypatch.undo()
    assert lines(store) == [ONE]
    assert len(list(folder.iterdir())) == 2


def test_what_was_changed_is_not_denied_when_the_folder_can_not_be_synced(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(key_store.os, "fsync", fsync)
    (added,) = store.add(ONE)
    assert lines(store) == [ONE]
    store.remove(added.key.fingerprint)
    assert lines(store) == []


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable):
        KeyStore(tmp_path / "file" / "keys", None, max_keys=3).add(ONE)


def test_a_lock_held_for_too_long_is_told(store: KeyStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_store, "LOCK_TIMEOUT", 0.05)
    store.add(ONE)
    with (folder / ".jhssh_authorized_keys.lock").open("r+") as held:
        key_store.fcntl.flock(held, key_store.fcntl.LOCK_EX)
        with pytest.raises(StoreUnusable, match="somebody else"):
            store.add(TWO)
    store.add(TWO)
    assert lines(store) == [ONE, TWO]


@pytest.mark.parametrize(("code", "works"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_is_written_all_the_same(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch, code: int, works: bool
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(key_store.fcntl, "flock", none_here)
    if works:
        store.add(ONE)
    else:
        with pytest.raises(StoreUnusable):
            store.add(ONE)
    assert lines(store) == ([ONE] if works else [])


def test_its_state_differs_after_each_change_of_either_file(store: KeyStore, folder: Path) -> None:
    states = [store.state()]
    store.add(ONE)
    states.append(store.state())
    (folder / "authorized_keys").write_text(TWO)
    states.append(store.state())
    (folder / "authorized_keys").unlink()
    states.append(store.state())
    assert store.state() == states[-1]
    assert all(before != after for before, after in itertools.pairwise(states))


def test_keys_are_read_back_as_they_were_parsed(store: KeyStore) -> None:
    (added,) = store.add(ONE)
    assert isinstance(added.key, PublicKey)
    assert store.read()[0][0].key == added.key

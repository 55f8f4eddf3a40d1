"""Forked processes: what is loaded in them, which process is their parent, and what the loss of their server costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from workers import fork_server, processes
from workers.fork_server import ForkedProcess, ForkServer, ForkServerFailed, is_supported

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")

PATIENCE_SECONDS = 60
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
preloaded_by: list[int] = []


def preload() -> None:
    preloaded_by.append(os.getpid())


def fail_to_preload() -> None:
    raise ImportError("no such library")


def load_for_ever() -> None:
    time.sleep(3600)


def say_why_not(_connection: Connection) -> None:
    sys.exit("no such device")


def tell_and_obey(connection: Connection) -> None:
    """Send facts about this process, then exit with the code that it receives."""
    connection.send(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "preloaded_by": preloaded_by,
            "threads": threading.active_count(),
            "ignores": [signal.getsignal(number) is signal.SIG_IGN for number in STOP_SIGNALS],
        }
    )
    sys.exit(connection.recv())


def start_and_tell(connection: Connection) -> None:
    """Act as a client: request a forked process, send the ids of server and process, and wait to be killed."""
    server = ForkServer(tell_and_obey, preload)
    forked, facts, _ = start(server)
    connection.send((facts["preloaded_by"][0], forked.pid))
    time.sleep(PATIENCE_SECONDS)


def start(server: ForkServer) -> tuple[ForkedProcess, dict[str, Any], Connection]:
    """Fork a process; return it, the facts that it sent, and the connection to it."""
    connection = server.request()
    process = take(server)
    assert connection.poll(PATIENCE_SECONDS)
    return process, connection.recv(), connection


def take(server: ForkServer) -> ForkedProcess:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process := server.take_process(0.1):
            return process
    raise AssertionError("waited in vain")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer(tell_and_obey, preload)
    yield server
    server.close()


def test_every_process_finds_what_the_server_has_loaded_once(server: ForkServer) -> None:
    _, first, _ = start(server)
    _, second, _ = start(server)
    assert first["pid"] != second["pid"]
    (loader,) = first["preloaded_by"]
    assert loader not in (first["pid"], os.getpid())
    assert second["preloaded_by"] == [loader]
    assert first["threads"] == second["threads"] == 1


def test_a_forked_process_is_a_child_of_its_client(server: ForkServer) -> None:
    process, facts, connection = start(server)
    assert (facts["pid"], facts["parent"]) == (process.pid, os.getpid())
    assert process.is_alive()
    connection.send(77)
    process.join(PATIENCE_SECONDS)
    assert (process.exitcode, process.is_alive()) == (77, False)
    killed, _, connection = start(server)
    killed.kill()
    killed.join(PATIENCE_SECONDS)
    assert killed.exitcode == -signal.SIGKILL
    with pytest.raises(EOFError):  # no other process holds the other end of the pipe
        connection.recv()
    killed.kill()  # no error, although the process has ended


def test_a_reason_for_an_exit_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer(say_why_not, preload)
    server.request()
    process = take(server)
    process.join(PATIENCE_SECONDS)
    server.close()
    assert process.exitcode == 1
    assert "no such device" in capfd.readouterr().err


def test_a_process_that_was_being_forked_ends_with_a_closed_server(
    server: ForkServer, capfd: pytest.CaptureFixture[str]
) -> None:
    _, _, first = start(server)
    connection = server.request()
    server.close()
    assert connection.poll(PATIENCE_SECONDS)
    with suppress(EOFError):
        while True:
            connection.recv()  # facts that the process may have sent before its end
    assert "Traceback" not in capfd.readouterr().err
    first.send(0)  # the first process still has its connection


@pytest.mark.parametrize("name", ["os.pidfd_open", "signal.pidfd_send_signal", "workers.processes.adopt_orphans"])
def test_processes_are_forked_only_where_they_can_be_adopted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_supported()
    with monkeypatch.context() as patch:
        patch.setattr(name, lambda *_: False) if "adopt" in name else patch.delattr(name)
        assert not is_supported()


def test_signals_to_the_process_group_are_the_clients_to_handle(server: ForkServer) -> None:
    _, facts, _ = start(server)
    for number in STOP_SIGNALS:
        os.kill(facts["preloaded_by"][0], number)
    _, later, _ = start(server)
    assert later["preloaded_by"] == facts["preloaded_by"]
    assert later["ignores"] == [True, True, True]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_is_gone_costs_a_new_one_and_no_process(server: ForkServer, number: int) -> None:
    process, facts, connection = start(server)
    (pid,) = facts["preloaded_by"]
    os.kill(pid, number)
    wait_for_state(pid, "T" if number == signal.SIGSTOP else "Z")
    if number == signal.SIGSTOP:
        server.request()
        with pytest.raises(ForkServerFailed, match="is stopped"):
            take(server)
    _, later, _ = start(server)
    assert later["preloaded_by"] != [pid]
    connection.send(5)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == 5


def test_a_server_that_dies_after_a_request_is_reported(server: ForkServer) -> None:
    _, facts, _ = start(server)
    os.kill(facts["preloaded_by"][0], signal.SIGSTOP)
    server.request()
    os.kill(facts["preloaded_by"][0], signal.SIGKILL)
    with pytest.raises(ForkServerFailed, match="has ended"):
        take(server)


def test_a_failed_preload_is_not_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer(tell_and_obey, fail_to_preload)
    server.request()
    with pytest.raises(ForkServerFailed, match="has ended"):
        take(server)
    assert "no such library" in capfd.readouterr().err


def test_a_silent_server_is_waited_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "LOAD_SECONDS", 0.5)
    server = ForkServer(tell_and_obey, load_for_ever)
    server.request()
    with pytest.raises(ForkServerFailed, match="does not answer"):
        take(server)


def test_the_server_ends_with_a_client_that_is_killed() -> None:
    processes.adopt_orphans()  # this process then learns of their ends
    ours, theirs = multiprocessing.Pipe()
    client = multiprocessing.get_context("spawn").Process(target=start_and_tell, args=(theirs,))
    client.start()
    assert ours.poll(PATIENCE_SECONDS)
    server_pid, forked_pid = ours.recv()
    sentinels = {pid: os.pidfd_open(pid) for pid in (server_pid, forked_pid)}
    client.kill()
    client.join()
    for pid, sentinel in sentinels.items():
        assert wait([sentinel], PATIENCE_SECONDS), f"{pid} lives on"
        os.waitpid(pid, 0)
        os.close(sentinel)


def wait_for_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while f"State:\t{state}" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)

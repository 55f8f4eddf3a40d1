"""Event streams over real connections, some of which break."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator

import httpx2

from tests.e2e.conftest import Processes, wait_for

NUM_DROPS = 10


def read_events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Parse a stream into events as a browser does (only the fields that this service sends)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields
            fields = {}


def test_a_client_that_reconnects_sees_every_event_once_and_in_order(processes: Processes) -> None:
    """The client reconnects ten times; every other time, the API process is killed too."""
    run_id = processes.submit(
        {
            "model": {"hidden_sizes": [24, 24], "dropout": 0.0},
            "training": {"batch_size": 20, "epochs": 12_000, "evaluate_every": 20},
        }
    )
    processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.1")
    seen: list[dict[str, str]] = []
    num_kills = 0
    for number in range(NUM_DROPS + 1):
        headers = {"Last-Event-ID": seen[-1]["id"]} if seen else {}
        is_last_time = number == NUM_DROPS
        try:
            with processes.client.stream("GET", f"/runs/{run_id}/events/stream", headers=headers, timeout=60) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                events = read_events(stream.iter_lines())
                for event in events:
                    seen.append(event)
                    is_enough = len(seen) >= 40 * (number + 1)
                    if is_enough and not is_last_time:
                        break
                if number % 2 and not is_last_time:
                    assert processes.api is not None
                    processes.api.send_signal(signal.SIGKILL)
                    num_kills += 1
                    seen += events  # events that were in transit
        except httpx2.TransportError:
            assert not is_last_time
        assert processes.api is not None
        if number % 2 and not is_last_time:
            processes.api.wait(60)
            processes.start_api()
    assert num_kills == NUM_DROPS // 2
    assert seen[-1]["event"] == "promoted"
    assert seen[-2]["event"] == "succeeded"
    stored = processes.events(run_id)
    assert [int(event["id"]) for event in seen] == [event["id"] for event in stored]
    assert [json.loads(event["data"]) for event in seen] == stored
    assert [event["event"] for event in seen] == [event["type"] for event in stored]
    metrics = [event["data"]["epoch"] for event in stored if event["type"] == "metric"]
    assert metrics == [1, *range(20, 12_001, 20)]
    processes.stop()


def test_a_stream_of_all_events_begins_now_and_says_where_that_is(processes: Processes) -> None:
    first = processes.submit({})
    with processes.client.stream("GET", "/events/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "id: 1"
        second = processes.submit({})
        event = next(read_events(lines))
    assert json.loads(event["data"])["run_id"] == second
    with processes.client.stream("GET", "/events/stream", params={"after": 0, "run_id": [first, second]}) as stream:
        event = next(read_events(stream.iter_lines()))
    assert json.loads(event["data"])["run_id"] == first


def test_a_finished_runs_stream_ends_after_its_replay(processes: Processes) -> None:
    run_id = processes.submit({})
    processes.client.post(f"/runs/{run_id}/cancel")
    wait_for(lambda: processes.get(run_id)["status"] == "cancelled")
    text = processes.client.get(f"/runs/{run_id}/events/stream").text
    assert [line for line in text.splitlines() if line.startswith("event:")] == ["event: queued", "event: cancelled"]
    assert processes.client.get(f"/runs/{run_id}/events/stream", headers={"Last-Event-ID": "2"}).text == ""


def ask_and_send_no_more(processes: Processes, target: str, version: str) -> tuple[bytes, bytes]:
    """Send a request, close the sending side, and return the response's head and body."""
    with socket.create_connection(("127.0.0.1", int(processes.port)), timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), body


def test_a_stream_to_a_client_that_sends_no_more_holds_what_there_is_and_ends(processes: Processes) -> None:
    run_id = processes.submit({})
    for path in ("/events/stream?after=0", f"/runs/{run_id}/events/stream"):
        head, body = ask_and_send_no_more(processes, path, "1.0")
        assert head.startswith(b"http/1.1 200")
        assert b"transfer-encoding" not in head
        assert re.match(rb"(id: 0\n\n)?event: queued\n", body)  # no chunk length before the body
        head, body = ask_and_send_no_more(processes, path, "1.1")
        assert b"transfer-encoding: chunked" in head
        assert b"event: queued\n" in body
        assert body.endswith(b"\r\n0\r\n\r\n")  # the last chunk is complete
    with processes.client.stream("GET", "/events/stream", params={"after": 0}) as stream:  # other streams continue
        assert next(read_events(stream.iter_lines()))["event"] == "queued"

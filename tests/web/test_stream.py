"""The stream: one connection for two tabs, a service that is killed and comes back, a run that is watched meanwhile."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Processes, children_of, wait_for
from tests.web.conftest import Service, Watched, WatchedPages

ESTABLISHED = "01"
SEEDS = list(range(8))
NUM_EPOCHS = 350  # fewer than the 400 points of a curve, so that each epoch is drawn
LIVE = {"model": {"hidden_sizes": [16]}, "training": {"epochs": 100_000, "batch_size": 1000}}
LONG = {
    "model": {"hidden_sizes": [256, 128]},
    "training": {"epochs": NUM_EPOCHS, "batch_size": 10, "evaluate_every": 1},
}
# What a chart of the run's accuracy looks like that is drawn from the metrics as the API has them.
EXPECTED = """async (rows) => {
  const { errors, linear, path } = await import("./web/js/scales.js");
  const svg = document.querySelector(".a-acc .chart svg");
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const epochs = rows.map((row) => row.epoch);
  const x = linear([0, epochs.at(-1)], [40, width - 8]);
  const y = errors([0.05, 0.9965], [height - 24, 10]);
  return path(epochs, rows.map((row) => row.val_accuracy), x, y);
}"""
# Each curve that is drawn: whether its points stand from left to right, none twice, none missing since the last one.
OBSERVE = """() => {
  window.drawn = [];
  new MutationObserver(() => {
    const d = document.querySelector(".a-acc path.series.s-val")?.getAttribute("d");
    if (!d) return;
    const xs = d.slice(1).split("L").map((each) => Number(each.split(" ")[0]));
    drawn.push({ points: xs.length, isInOrder: xs.every((x, i) => !i || x > xs[i - 1]) });
  }).observe(document.getElementById("main"), { subtree: true, childList: true });
}"""
BROKEN = "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"


def connections(port: str) -> int:
    """Return the number of connections to a port that other processes than this one have opened."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink() and (found := re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))):
            own.add(found[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    to_port = [row for row in rows if row[2].endswith(f":{int(port):04X}") and row[3] == ESTABLISHED]
    return sum(row[9] not in own for row in to_port)


def ask_nothing(page: Page, service: Service) -> None:
    """Show a view that asks the service for nothing more."""
    page.goto(service.address("states"))
    page.wait_for_selector('html[data-ready="states"]')


def epochs_shown(page: Page, ids: list[str]) -> list[int]:
    texts = [page.locator(f'tr[data-id="{run_id}"] .inprogress').inner_text() for run_id in ids]
    return [int(text.strip().partition(" ")[0].replace(",", "")) for text in texts]


def wait_in(page: Page, what: Callable[[], Any]) -> None:
    """Wait until `what()` is true, while the page's requests are noted."""

    def look() -> Any:
        page.wait_for_timeout(100)
        return what()

    wait_for(look)


def watch_rows(page: Page, ids: list[str]) -> None:
    """Wait until each of these runs is seen to go on."""
    for run_id in ids:
        expect(page.locator(f'tr[data-id="{run_id}"] .inprogress')).to_be_visible()
    before = epochs_shown(page, ids)
    wait_in(page, lambda: all(a > b for a, b in zip(epochs_shown(page, ids), before, strict=True)))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net/tcp")
def test_eight_live_runs_in_two_tabs_take_one_stream_and_the_second_tab_goes_on_alone(
    service: Service, open_page: WatchedPages
) -> None:
    client = service.processes.client
    # The trials of a sweep are queued at once, so that one stack has all of them.
    sweep_id = client.post("/sweeps", json={"name": "live", "base": LIVE, "parameters": {"seed": SEEDS}}).json()["id"]
    ids = [run["id"] for run in client.get("/runs", params={"sweep_id": sweep_id}).json()["data"]]
    assert len(ids) == len(SEEDS)
    address = f"{service.url}/#/runs?sweep={sweep_id}"
    page, watched = open_page(address)
    opened_by: dict[str, list[str]] = {"first": [], "second": []}
    note_streams(page, opened_by["first"])
    other = page.context.new_page()
    watched.follow(other)
    note_streams(other, opened_by["second"])
    other.goto(address)
    other.wait_for_selector("html[data-ready]")
    for each in (page, other):
        watch_rows(each, ids)
    for each in (page, other):
        ask_nothing(each, service)
    # Connections that wait for a next request are closed by the service after some seconds; the stream's stays.
    port = service.processes.port
    wait_in(page, lambda: connections(port) == 1)
    assert opened_by["second"] == [], "the second tab has opened none"
    page.close()
    closed_at = time.monotonic()
    wait_in(other, lambda: opened_by["second"])
    print(f"the second tab opens its stream {time.monotonic() - closed_at:.1f} s after the first was closed")
    wait_in(other, lambda: connections(port) == 1)
    other.goto(address)
    watch_rows(other, ids)
    assert client.post(f"/sweeps/{sweep_id}/cancel").is_success
    for run_id in ids:
        expect(other.locator(f'tr[data-id="{run_id}"] .status.cancelled')).to_be_visible()
    wait_for(lambda: client.get(f"/sweeps/{sweep_id}").json()["status"] == "cancelled")
    assert client.delete(f"/sweeps/{sweep_id}").is_success


def note_streams(page: Page, urls: list[str]) -> None:
    page.on("request", lambda request: urls.append(request.url) if "/events/stream" in request.url else None)


def test_metrics_of_runs_that_nobody_looks_at_are_not_sent(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    with page.expect_request("**/events/stream*") as stream:
        page.reload()
    assert "type=queued" in stream.value.url
    assert "type=metric" not in stream.value.url


def test_a_curve_ends_as_the_metrics_are_after_api_and_worker_were_killed(
    idle_service: Processes, open_page: WatchedPages
) -> None:
    settings = {"DIGITLAB_LEASE_SECONDS": "2"}
    api = idle_service.start_api(**settings)
    (worker,) = idle_service.start_ready_workers(1, **settings).values()
    run_id = idle_service.submit({"name": "long", **LONG})
    page, watched = open_page(f"http://127.0.0.1:{idle_service.port}/#/runs/{run_id}", (409, "/weights"))
    page.evaluate(OBSERVE)
    wait_in(page, lambda: any(each["points"] >= 20 for each in page.evaluate("drawn")))
    os.kill(api.pid, signal.SIGKILL)
    api.wait(60)
    for pid in (*children_of(worker.pid), worker.pid):
        os.kill(pid, signal.SIGKILL)
    worker.wait(60)
    idle_service.workers.clear()
    at_kill = idle_service.row(run_id).epoch
    expect(page.locator(".banner").first).to_contain_text("Not connected")
    assert page.locator(".a-acc path.series.s-val").is_visible(), "what was shown stays"
    idle_service.start_api(**settings)
    idle_service.start_worker(**settings)
    expect(page.get_by_text("Not connected")).to_have_count(0)
    assert idle_service.finish(run_id)["status"] == "succeeded"
    expect(page.locator(".head .status").first).to_contain_text("succeeded")
    metrics = read_metrics(idle_service, run_id)
    assert [row["epoch"] for row in metrics] == list(range(1, NUM_EPOCHS + 1)), "no gap, nothing twice"
    expect(page.locator(".a-acc path.series.s-val")).to_have_attribute("d", page.evaluate(EXPECTED, metrics))
    drawn = page.evaluate("drawn")
    assert all(each["isInOrder"] for each in drawn)
    points = [each["points"] for each in drawn]
    print(f"drawn {len(points)} times, with {sorted(set(points))} points; killed at epoch {at_kill}")
    assert points == sorted(points), "nothing that was drawn is gone"
    assert len(set(points)) > 3, "it was seen to grow"
    assert any(n <= at_kill for n in points)
    forget_broken(watched)


def read_metrics(processes: Processes, run_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = processes.client.get(f"/runs/{run_id}/metrics", params={"limit": 1000}).json()["data"]
    return rows


def forget_broken(watched: Watched) -> None:
    """Leave out what a browser says about a service that is away."""
    watched.found[:] = [each for each in watched.found if not any(name in each for name in BROKEN)]

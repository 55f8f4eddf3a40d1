"""The stream: one connection for two tabs, a service that is killed and comes back, a run that is watched meanwhile."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Processes
from tests.web.conftest import QUICK, Service, WatchedPages

pytestmark = pytest.mark.xdist_group("web")


def test_two_tabs_share_one_stream_and_the_second_goes_on_when_the_first_is_closed(
    service: Service, open_page: WatchedPages
) -> None:
    page, watched = open_page(service.address("runs"))
    streams: list[str] = []
    page.context.on("request", lambda request: streams.append(request.url) if "/events/stream" in request.url else None)
    other = page.context.new_page()
    watched.follow(other)
    other.goto(service.address("models"))
    other.wait_for_selector("html[data-ready]")
    other.goto(service.address("runs"))
    other.wait_for_selector("html[data-ready]")
    other.wait_for_timeout(500)
    assert streams == [], "the second tab opens none"
    run_id = service.processes.submit({"name": "seen by both", **QUICK})
    for each in (page, other):
        expect(each.locator(f'tr[data-id="{run_id}"]')).to_be_visible()
    page.close()
    for _ in range(50):
        other.wait_for_timeout(100)
        if streams:
            break
    assert len(streams) == 1, "the second tab goes on"
    later = service.processes.submit({"name": "seen by the second", **QUICK})
    expect(other.locator(f'tr[data-id="{later}"]')).to_be_visible()
    expect(other.locator(f'tr[data-id="{later}"] .status.succeeded')).to_be_visible(timeout=60_000)


def test_metrics_of_runs_that_nobody_looks_at_are_not_sent(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    with page.expect_request("**/events/stream*") as stream:
        page.reload()
    assert "type=queued" in stream.value.url
    assert "type=metric" not in stream.value.url


def test_a_killed_service_is_followed_again_and_the_curve_has_no_gap(
    idle_service: Processes, open_page: WatchedPages
) -> None:
    api = idle_service.start_api()
    idle_service.start_ready_workers(1)
    config = {"model": {"hidden_sizes": [256]}, "training": {"epochs": 1500, "batch_size": 20, "evaluate_every": 10}}
    run_id = idle_service.submit({"name": "long", **config})
    page, watched = open_page(f"http://127.0.0.1:{idle_service.port}/#/runs/{run_id}", (409, "/weights"))
    expect(page.locator(".a-acc")).to_be_visible(timeout=60_000)
    os.kill(api.pid, signal.SIGKILL)
    api.wait(10)
    expect(page.locator(".banner")).to_contain_text("Not connected", timeout=15_000)
    assert page.locator(".a-acc").is_visible(), "what was shown stays"
    idle_service.start_api()
    expect(page.locator(".banner")).to_have_count(0, timeout=40_000)
    idle_service.client.post(f"/runs/{run_id}/cancel")
    idle_service.finish(run_id)
    expect(page.locator(".head .status").first).to_contain_text("cancelled", timeout=20_000)
    metrics = idle_service.client.get(f"/runs/{run_id}/metrics", params={"points": 400}).json()["data"]
    page.wait_for_timeout(1500)
    drawn = page.locator(".a-acc path.series.s-val").get_attribute("d") or ""
    assert drawn.count("L") + drawn.count("M") == len(metrics)
    refused = "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"
    watched.found[:] = [each for each in watched.found if not any(name in each for name in refused)]

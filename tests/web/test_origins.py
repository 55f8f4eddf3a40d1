"""Pages of other sites can neither change, read nor frame the service; by a LAN name the page works as on loopback."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect

from tests.e2e.conftest import Processes
from tests.web.conftest import PATIENCE_MS, Service, WatchedPages

RUN = '{"name": "forged", "training": {"epochs": 1}}'
# Sent as text/plain, this form's body is a JSON document: its name and value are joined by "=".
FORGED = '<form method="post" action="{url}/runs" enctype="text/plain"><input name=\'{{"name": "forged", "notes": "\' \
value=\'"}}\'><button>Send</button></form>'
ACTIONS = ("models/champion/rollback", "runs/{run_id}/cancel", "sweeps/{sweep_id}/cancel")


class Stranger(BaseHTTPRequestHandler):
    """A server of another site; its page frames the service and has forms that post to it."""

    url = ""
    paths: tuple[str, ...] = ()

    def do_GET(self) -> None:
        forms = "".join(
            f'<form method="post" action="{self.url}/{each}"><button>{each}</button></form>' for each in self.paths
        )
        frames = f'<iframe src="{self.url}/"></iframe><object data="{self.url}/"></object><embed src="{self.url}/">'
        body = {"/frames": frames, "/forms": FORGED.format(url=self.url) + forms}.get(self.path, "")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"<!doctype html><title>evil</title>{body}".encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger(service: Service) -> Iterator[str]:
    """The address of another site's page, on this machine by another name."""
    names = {"run_id": service.run_id, "sweep_id": service.sweep_id}
    paths = tuple(each.format(**names) for each in ACTIONS)
    handler = type("Handler", (Stranger,), {"url": service.url, "paths": paths})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://evil.example:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that nothing is expected of."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def state(service: Service) -> list[Any]:
    """What a forged request would change: runs, sweeps, and how the champion came to be it."""
    paths = "/runs?limit=200", "/sweeps", "/models/champion"
    return [service.processes.client.get(path).raise_for_status().json() for path in paths]


def test_a_form_of_another_site_is_refused(service: Service, stranger: str, page: Page) -> None:
    before = state(service)
    for number in range(1 + len(ACTIONS)):
        page.goto(f"{stranger}/forms")
        with page.expect_navigation() as navigation:
            page.locator("button").nth(number).click()
        assert navigation.value is not None
        assert navigation.value.status == 403
        assert json.loads(page.locator("body").inner_text())["type"].endswith("/cross-site")
    assert state(service) == before


def test_a_script_of_another_site_neither_changes_nor_reads_anything(
    service: Service, stranger: str, page: Page
) -> None:
    before = state(service)
    answers: list[tuple[str, int]] = []

    def note(response: Response) -> None:
        if response.url.startswith(service.url):
            answers.append((response.request.method, response.status))

    page.on("response", note)
    page.goto(f"{stranger}/")
    simple = {"method": "POST", "mode": "no-cors", "headers": {"Content-Type": "text/plain"}, "body": RUN}
    with_json = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": RUN}
    tried: list[tuple[str, dict[str, Any]]] = [
        ("runs", simple),
        (f"runs/{service.run_id}/cancel", {"method": "POST", "mode": "no-cors"}),
        ("models/champion/rollback", {"method": "POST", "mode": "no-cors"}),
        ("runs", with_json),
        (f"runs/{service.other_id}", {"method": "DELETE"}),
        ("models/champion", {"method": "PUT", **{k: v for k, v in with_json.items() if k != "method"}}),
        ("runs", {}),
        ("models/champion", {"credentials": "include"}),
        ("events/stream", {}),
    ]
    found = [
        page.evaluate(
            "([url, options]) => fetch(url, options).then(async (r) => r.type + await r.text(), (e) => e.name)",
            [f"{service.url}/{path}", options],
        )
        for path, options in tried
    ]
    assert found == ["opaque"] * 3 + ["TypeError"] * 6, "nothing is read"
    assert [each for each in answers if each[0] == "POST"] == [("POST", 403)] * 3
    assert [each for each in answers if each[0] in ("DELETE", "PUT")] == []
    page.goto(f"{stranger}/")
    beacon = page.evaluate("([url, text]) => navigator.sendBeacon(url, text)", [f"{service.url}/runs", RUN])
    assert beacon is True, "the browser has sent it"
    page.wait_for_timeout(300)
    assert state(service) == before


def test_the_page_is_framed_by_no_other_site(service: Service, stranger: str, page: Page) -> None:
    refused: list[str] = []

    def is_last(message: ConsoleMessage) -> bool:
        if "frame-ancestors" in message.text:
            refused.append(message.text)
        return len(refused) == 3  # an iframe, an object and an embed have asked for it

    with page.expect_console_message(is_last):
        page.goto(f"{stranger}/frames")
    assert [frame.url for frame in page.frames if frame.url.startswith(service.url)] == []


def test_the_services_port_under_another_name_is_refused(service: Service, page: Page) -> None:
    """DNS rebinding: a name of another site resolves to this machine, so that its page is of one origin with this."""
    origin = service.url.replace("127.0.0.1", "evil.example")
    answer = page.goto(f"{origin}/")
    assert answer is not None
    assert answer.status == 421
    assert json.loads(page.locator("body").inner_text())["type"].endswith("/unknown-host")
    before = state(service)
    tried = [
        ("GET", "runs"),
        ("GET", "web/js/main.js"),
        ("GET", "models/champion"),
        ("POST", "runs"),
        ("POST", "predict"),
    ]
    found = page.evaluate(
        """([origin, tried, body]) => Promise.all(tried.map(([method, path]) =>
            fetch(`${origin}/${path}`, {method, body: method === "POST" ? body : null}).then((r) => r.status)))""",
        [origin, tried, RUN],
    )
    assert found == [421] * len(tried)
    assert state(service) == before


@pytest.mark.parametrize(
    "path",
    [
        "/web/../pyproject.toml",
        "/web/../../settings.py",
        "/web/..%2f..%2fsettings.py",
        "/web/%2e%2e/%2e%2e/settings.py",
        "/web/js/../../../endpoints.py",
        "/web/..%5c..%5csettings.py",
        "/web//etc/passwd",
        "/web/%2fetc%2fpasswd",
        "/web/js%00.js",
        "/web/js/main.js%00.css",
        "/web/js/main.js/",
        "/web/./js/main.js",
        "/web/JS/main.js",
    ],
)
def test_no_path_leaves_the_pages_folder(service: Service, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(service.processes.port))  # sends the path as it is
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["status"] == 404


@pytest.fixture
def by_name(idle_service: Processes) -> str:
    """The service by a name in a local network, which is no secure context without TLS."""
    idle_service.start_api(DIGITLAB_ALLOWED_HOSTS="lan.example")
    return f"http://lan.example:{idle_service.port}"


def test_by_a_lan_name_ids_copies_and_changes_work(
    idle_service: Processes, by_name: str, open_page: WatchedPages
) -> None:
    page, _ = open_page(f"{by_name}/#/train")
    missing = "[isSecureContext, typeof crypto.randomUUID, typeof navigator.clipboard, typeof navigator.locks]"
    assert page.evaluate(missing) == [False, "undefined", "undefined", "undefined"]
    with page.expect_request(lambda request: request.method == "POST" and request.url == f"{by_name}/runs") as sent:
        page.locator(".start").click()
    assert len(sent.value.headers["idempotency-key"]) == 32
    expect(page.locator(".live")).to_contain_text("dropout-tanh")
    (run,) = idle_service.client.get("/runs").json()["data"]
    page.goto(f"{by_name}/#/runs/{run['id']}")
    page.get_by_role("button", name="Copy", exact=False).first.click()
    expect(page.locator(".toast")).to_contain_text("copied")
    page.goto(f"{by_name}/#/runs")
    field = page.get_by_role("searchbox")
    field.focus()
    page.keyboard.press("Control+V")
    assert by_name in field.input_value() or run["id"] in field.input_value()


def test_by_a_lan_name_each_tab_has_a_stream_and_closes_it_after_30_s_hidden(
    idle_service: Processes, by_name: str, open_page: WatchedPages
) -> None:
    page, watched = open_page(f"{by_name}/#/runs")
    streams: list[str] = []
    other = page.context.new_page()
    other.on("request", lambda request: streams.append(request.url) if "/events/stream" in request.url else None)
    watched.follow(other)
    other.clock.install()
    with other.expect_request("**/events/stream*"):
        other.goto(f"{by_name}/#/runs")
    other.wait_for_selector("html[data-ready]")
    first = idle_service.submit({"name": "seen by both"})
    for each in (page, other):
        each.locator(f'tr[data-id="{first}"]').wait_for()
    assert len(streams) == 1, "the second tab has opened its own"
    hide(other, is_hidden=True)
    other.clock.run_for(20_000)
    with other.expect_event("requestfailed", lambda request: "/events/stream" in request.url):
        other.clock.run_for(15_000)
    second = idle_service.submit({"name": "seen by one"})
    page.locator(f'tr[data-id="{second}"]').wait_for()
    assert len(streams) == 1, "a hidden tab opens none"
    with other.expect_request("**/events/stream*") as again:
        hide(other, is_hidden=False)
        other.clock.run_for(5_000)
    other.locator(f'tr[data-id="{second}"]').wait_for()
    assert "after=" in again.value.url
    assert len(streams) == 2
    expect(other.locator(".banner", has_text="Not connected")).to_have_count(0)


def hide(page: Page, *, is_hidden: bool) -> None:
    """Hide a tab or show it again; a browser without a window shows all."""
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )

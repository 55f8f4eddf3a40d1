"""`Accept`, on every route with several representations: the response is JSON unless the client prefers another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import AddModel, TestClient

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

JSON = "application/json"
Ask = Callable[..., tuple[str, str]]

# The client's `Accept` lines, and whether it gets the other representation. OTHER is its media type, KIND the part
# before the slash.
WISHES: list[tuple[list[str], bool]] = [
    ([], False),
    ([""], False),
    (["*/*"], False),
    (["*"], False),
    (["application/json, text/plain, */*"], False),  # axios
    (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], False),  # Java
    (["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"], False),  # browsers
    (["OTHER"], True),
    (["Other"], True),
    (["OTHER, application/json"], False),  # equal preference: JSON
    (["OTHER, */*"], False),
    (["application/json;q=0.5, OTHER"], True),
    (["application/json ; Q = 0.5 , OTHER ; q=0.9"], True),
    (["application/json;q=0.5, OTHER;q=0.4"], False),
    (["OTHER;q=0.9, */*;q=0.8"], True),
    (["OTHER;q=0.0, */*"], False),
    (["OTHER;q=0"], False),
    (["application/json;q=0, */*"], True),
    (["application/json;q=0, */*;q=0.001"], True),
    (["application/json;q=0, KIND/*"], True),
    (["application/json;q=0.5, KIND/*;q=0.7, OTHER;q=0.6"], True),
    (["*/*;q=0"], False),  # the service never sends a 406
    (["image/png"], False),
    (["image/png, OTHER;q=0.1"], True),
    (["OTHER;charset=utf-8"], True),
    (["OTHER;charset=UTF-8;q=0.9, application/json;q=0.8"], True),
    (["OTHER;x=1, OTHER;q=0.3, application/json;q=0.5"], False),  # the exact match counts, not the one with x=1
    (["application/json;charset=utf-8, OTHER;q=0.9"], False),
    (["application/json;q=0.9", "OTHER"], True),  # two header lines are one list
    (['image/png;a="b,OTHER", application/json'], False),
    (["OTHER;q=nonsense, application/json;q=0.5"], True),
    ([",,;q=1, /,OTHER,"], True),
    (["application/jsonOTHER"], False),
    (["xOTHER"], False),
]


@pytest.fixture
def ask(client: TestClient, add_model: AddModel) -> Ask:
    run_id = add_model()
    sweep_id = client.post("/sweeps", json={"parameters": {"seed": [1, 2]}}).json()["id"]
    requests = {
        "summary": ("GET", f"/runs/{run_id}/summary", None),
        "metrics": ("GET", f"/runs/{run_id}/metrics", None),
        "report": ("GET", f"/sweeps/{sweep_id}/report", None),
        "predict": ("POST", f"/predict?run_id={run_id}", {"instances": [[[0] * 8] * 8]}),
    }

    def send(name: str, wish: list[str], query: str = "") -> tuple[str, str]:
        method, path, body = requests[name]
        client.headers.pop("accept", None)
        response = client.request(method, path + query, json=body, headers=[("accept", line) for line in wish])
        assert response.status_code == 200, response.text
        return response.headers["content-type"].partition(";")[0], response.headers.get("vary", "")

    return send


OTHERS = {
    "summary": "text/plain",
    "metrics": "text/csv",
    "report": "text/csv",
    "predict": "application/octet-stream",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_client_gets_what_it_likes_best(ask: Ask, name: str) -> None:
    other = OTHERS[name]
    kind, _, _ = other.partition("/")
    for lines, gets_other in WISHES:
        wish = [line.replace("OTHER", other).replace("Other", other.title()).replace("KIND", kind) for line in lines]
        found, vary = ask(name, wish)
        assert (wish, found) == (wish, other if gets_other else JSON)
        assert vary == ("" if name == "predict" else "Accept")  # caches do not keep responses to POST


@pytest.mark.parametrize("name", ["metrics", "report"])
def test_a_format_that_is_named_outranks_accept(ask: Ask, name: str) -> None:
    assert ask(name, ["text/csv"], "?format=json")[0] == JSON
    assert ask(name, [JSON], "?format=csv")[0] == "text/csv"


def test_a_scraper_gets_the_format_that_it_likes_best(client: TestClient) -> None:
    openmetrics = "application/openmetrics-text"
    wishes = {
        f"{openmetrics};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": openmetrics,
        f"{openmetrics.title()}; version=1.0.0": openmetrics,
        f"{openmetrics};q=0.1, text/plain": "text/plain",
        f"{openmetrics};q=0, */*": "text/plain",
        "text/html, */*;q=0.8": "text/plain",
        "image/png," * 200 + "*/*": "text/plain",
        f"{openmetrics};version=nonsense": openmetrics,
    }
    for wish, media_type in wishes.items():
        response = client.get("/metrics", headers={"Accept": wish})
        assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (200, media_type)
        assert response.headers["vary"] == "Accept"

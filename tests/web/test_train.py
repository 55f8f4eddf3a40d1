"""Train: knobs, refusals, one run for two clicks, playback, and the curves of a run that is watched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.web.conftest import Service, WatchedPages


def wait_for_plan(page: Page) -> None:
    expect(page.locator(".plan")).to_contain_text("parameters")


def test_each_knob_arrives_in_the_submission(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/train?preset=defaults", reduced_motion="reduce")
    wait_for_plan(page)
    page.get_by_label("Width of hidden layer 1").fill("24")
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="tanh").click()
    for label, value in (("Dropout", "0.1"), ("Learning rate", "0.02"), ("Batch size", "30"), ("Epochs", "12")):
        page.get_by_label(f"{label}, exactly").fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("radio", name="1/255").click()
    expect(page.locator(".field.changed")).to_have_count(7)
    page.wait_for_timeout(400)
    reloaded = page.url
    bodies: list[str] = []
    page.on(
        "request",
        lambda request: (
            bodies.append(request.post_data or "")
            if request.url.endswith("/runs") and request.method == "POST"
            else None
        ),
    )
    page.locator(".start").dblclick()
    expect(page.locator(".live .status")).to_contain_text("trained in")
    sent = json.loads(bodies[0])
    assert sent["preset"] == "defaults"
    assert sent["model"] == {"hidden_sizes": [24, 64], "activation": "tanh", "dropout": 0.1}
    assert sent["training"] == {"optimizer": {"learning_rate": 0.02}, "batch_size": 30, "epochs": 12, "snapshots": 16}
    assert sent["scaling"] == "byte"
    named = service.processes.client.get("/runs", params={"q": sent["name"]}).json()["data"]
    assert len(named) == 1, "two clicks make one run"
    assert "training.epochs=12" in reloaded
    other, _ = open_page(reloaded)
    wait_for_plan(other)
    assert other.get_by_label("Epochs, exactly").input_value() == "12"
    expect(other.locator(".field.changed")).to_have_count(7)


MORE = {
    "Warped copies of each image": ("2", "training.augmentation", {"kind": "affine_elastic", "copies": 2}),
    "Seed": ("5", "seed", 5),
    "Momentum": ("0.4", "training.optimizer.momentum", 0.4),
    "Warm-up, steps": ("20", "training.schedule.warmup_steps", 20),
    "Weight decay": ("0.002", "training.optimizer.weight_decay", 0.002),
    "Early stopping, epochs without gain": ("30", "training.early_stopping", {"patience": 30}),
}


def test_the_knobs_that_are_folded_away_arrive_too(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(
        f"{service.url}/#/train?preset=defaults&training.epochs=3&model.hidden_sizes=8", reduced_motion="reduce"
    )
    wait_for_plan(page)
    page.locator("details.more summary").click()
    page.get_by_role("radio", name="cosine").click()
    expect(page.locator('[data-path="training.schedule.warmup_steps"]')).to_be_visible()
    for label, (text, _, _) in MORE.items():
        page.get_by_label(f"{label}, exactly").fill(text)
        page.keyboard.press("Tab")
    page.locator('[data-path="training.optimizer.nesterov"]').get_by_role("radio", name="on").click()
    page.get_by_role("radio", name="last epoch").click()
    with page.expect_response("**/runs") as submitted:
        page.locator(".start").click()
    run = service.processes.get(submitted.value.json()["id"])
    expected = {path: value for _, path, value in MORE.values()} | {
        "training.schedule.kind": "cosine",
        "training.optimizer.nesterov": True,
        "training.keep": "last",
        "training.optimizer.kind": "sgd",
    }
    found = {path: at(run["config"] | {"seed": run["config"].get("seed")}, path) for path in expected}
    for path, value in expected.items():
        if isinstance(value, dict):
            assert value.items() <= found[path].items(), path
        else:
            assert found[path] == value, path
    expect(page.locator(".live .status")).to_contain_text("trained in")
    page.get_by_role("radio", name="Adam").click()
    wait_for_plan(page)
    with page.expect_response("**/runs") as submitted:
        page.locator(".start").click()
    assert submitted.value.json()["config"]["training"]["optimizer"]["kind"] == "adam"


def at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config


def test_enter_trains_one_run(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(
        f"{service.url}/#/train?preset=defaults&training.epochs=4&model.hidden_sizes=9", reduced_motion="reduce"
    )
    wait_for_plan(page)
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.url) if is_submission(request) else None)
    page.locator("#main").focus()
    for _ in range(2):
        page.keyboard.press("Enter")
    expect(page.locator(".live .status")).to_contain_text("trained in")
    assert len(posted) == 1
    name = page.locator(".live h1").inner_text()
    assert len(service.processes.client.get("/runs", params={"q": name}).json()["data"]) == 1


def test_a_knob_that_is_turned_while_a_run_is_submitted_does_not_free_the_button(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(
        f"{service.url}/#/train?preset=defaults&training.epochs=4&model.hidden_sizes=9", reduced_motion="reduce"
    )
    wait_for_plan(page)
    held: list[Route] = []
    page.route("**/runs", lambda route: held.append(route))
    page.locator(".start").click()
    with page.expect_response("**/runs?dry_run=true"):
        page.get_by_label("Epochs, exactly").fill("5")
        page.keyboard.press("Tab")
    wait_for_plan(page)
    expect(page.locator(".start")).to_be_disabled()
    assert len(held) == 1
    with page.expect_response("**/runs") as submitted:
        held[0].continue_()
    expect(page.locator(".start")).to_be_enabled()
    service.processes.finish(submitted.value.json()["id"])


def is_submission(request: Request) -> bool:
    return request.method == "POST" and request.url.endswith("/runs")


def test_a_refusal_stands_at_its_field_in_the_servers_words(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/train?preset=defaults", (422, "dry_run"))
    wait_for_plan(page)
    field = page.locator('[data-path="training.optimizer.learning_rate"]')
    page.get_by_label("Learning rate, exactly").fill("300")
    page.keyboard.press("Tab")
    expect(field.locator(".error")).to_contain_text("less than or equal to 100")
    expect(page.get_by_label("Learning rate, exactly")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".start")).to_be_disabled()
    page.get_by_label("Learning rate, exactly").fill("0.1")
    page.keyboard.press("Tab")
    expect(field.locator(".error")).to_be_hidden()
    expect(page.locator(".start")).to_be_enabled()


# What the player says, one after the other.
LISTEN = """() => {
  window.said = [];
  new MutationObserver(() => {
    const text = document.querySelector(".live .status")?.textContent;
    if (text && said.at(-1) !== text) said.push(text);
  }).observe(document.querySelector(".live"), { subtree: true, childList: true });
}"""


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_a_training_is_played_back_or_where_less_motion_is_wished_for_shown_at_once(
    service: Service, open_page: WatchedPages, motion: str
) -> None:
    page, _ = open_page(f"{service.url}/#/train?run={service.run_id}", reduced_motion=motion)
    expect(page.locator(".live .status")).to_contain_text("trained in")
    metrics = service.processes.client.get(f"/runs/{service.run_id}/metrics").json()["data"]
    slider = page.get_by_role("slider", name="Epoch", exact=True)
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".live .status")).to_contain_text("epoch 1 of 30")
    assert "at=1" in page.url
    expect(page.locator(".live .stat.lead dd")).to_contain_text(f"{metrics[0]['val_accuracy'] * 100:.1f}")
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Play the training again").click()
    expect(page.locator(".live .status")).to_contain_text("trained in")
    assert "at=" not in page.url
    said = page.evaluate("said")
    epochs = [int(text.split()[1]) for text in said if text.startswith("epoch")]
    if motion == "reduce":
        assert epochs == []
    else:
        assert len(epochs) > 3
        assert epochs == sorted(epochs)


def test_a_run_that_is_watched_ends_with_the_curve_of_its_metrics(service: Service, open_page: WatchedPages) -> None:
    long = {"name": "watched", "model": {"hidden_sizes": [4]}, "training": {"epochs": 60, "evaluate_every": 1}}
    run_id = service.processes.submit(long)
    page, _ = open_page(f"{service.url}/#/runs/{run_id}")
    service.processes.finish(run_id)
    expect(page.locator(".head .status").first).to_contain_text("succeeded")
    expect(page.locator(".matrix button")).to_have_count(100)
    metrics = service.processes.client.get(f"/runs/{run_id}/metrics", params={"points": 400}).json()["data"]
    drawn = page.locator(".a-acc path.series.s-val").get_attribute("d") or ""
    assert drawn.count("L") + drawn.count("M") == len(metrics) == 60


def test_an_epoch_shows_its_snapshots_weights_and_mistakes(service: Service, open_page: WatchedPages) -> None:
    address = f"{service.url}/#/train?preset=minibatch-sigmoid&training.epochs=40&model.hidden_sizes=6"
    page, _ = open_page(address, reduced_motion="reduce")
    wait_for_plan(page)
    page.locator(".start").click()
    expect(page.locator(".live .status")).to_contain_text("trained in")
    expect(page.locator(".weights .note")).to_contain_text("6 units")
    run_id = page.url.partition("run=")[2].partition("&")[0]
    snapshots = service.processes.client.get(f"/runs/{run_id}/snapshots").json()
    assert len(snapshots["data"]) == 16
    shown = snapshots["data"][3]
    slider = page.get_by_role("slider", name="Epoch", exact=True)
    slider.fill(str(shown["epoch"]))
    expect(page.locator(".weights .note")).to_have_text(f"6 units at epoch {shown['epoch']}")
    assert (
        page.evaluate("Array.from(document.querySelectorAll('.weights canvas'), (each) => Array.from(each.values))")
        == (shown["layers"][0]["weights"])
    )
    answers = zip(snapshots["labels"], shown["digits"], shown["confidences"], strict=True)
    wrong = sorted((each for each in answers if each[0] != each[1]), key=lambda each: -each[2])
    expect(page.locator(".mistakes .note")).to_have_text(f"{len(wrong)} of 540 at epoch {shown['epoch']}")
    tiles = page.locator(".mistakes a.digit > span").all_inner_texts()
    assert [text.replace(" ", "") for text in tiles] == [f"{label}→{digit}" for label, digit, _ in wrong[:16]]


def test_a_knob_stands_where_the_configuration_has_it_and_refusals_find_it(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(f"{service.url}/#/train?preset=defaults", (422, "dry_run"))
    wait_for_plan(page)
    page.locator("details.more summary").click()
    warm_up = page.locator('[data-path="training.schedule.warmup_steps"]')
    momentum = page.locator('[data-path="training.optimizer.momentum"]')
    nesterov = page.locator('[data-path="training.optimizer.nesterov"]')
    expect(warm_up).to_be_hidden()
    nesterov.get_by_role("radio", name="on").click()
    page.get_by_role("radio", name="cosine").click()
    expect(warm_up).to_be_visible()
    page.get_by_label("Warm-up, steps, exactly").fill("1000000")
    page.keyboard.press("Tab")
    expect(warm_up.locator(".error")).to_contain_text("should be less than the 2,000 steps of the run")
    page.get_by_label("Warm-up, steps, exactly").fill("50")
    page.keyboard.press("Tab")
    expect(page.locator(".start")).to_be_enabled()
    page.get_by_label("Momentum, exactly").fill("0")
    page.keyboard.press("Tab")
    expect(nesterov.locator(".error")).to_contain_text("nesterov needs a momentum above 0")
    page.get_by_label("Momentum, exactly").fill("0.8")
    page.keyboard.press("Tab")
    expect(page.locator(".start")).to_be_enabled()
    assert "training.schedule.kind=cosine&training.schedule.warmup_steps=50" in page.url
    assert "training.optimizer.nesterov=true" in page.url
    page.get_by_role("radio", name="Adam").click()
    expect(momentum).to_be_hidden()
    expect(nesterov).to_be_hidden()
    expect(page.locator(".plan")).to_contain_text("parameters")

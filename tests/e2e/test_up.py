"""`digitlab up` and the client commands, as a user runs them: real processes, a free port, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, free_port, wait_for

DIGITLAB = [sys.executable, "-m", "app.cli"]


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    client: httpx2.Client

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*DIGITLAB, *arguments], env=self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("service")
    environment = {**os.environ, "DIGITLAB_PORT": port, "DIGITLAB_DATA_DIR": str(folder), "DIGITLAB_URL": url}
    process = subprocess.Popen([*DIGITLAB, "up"], env=environment)
    try:
        with httpx2.Client(base_url=url) as client:
            # The training code may have to be compiled first.
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            yield Service(process, environment, client)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def val_samples(client: httpx2.Client) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = client.get("/datasets/digits/samples?split=val&limit=2000").json()["data"]
    return samples


def test_the_starter_run_answers_all_val_images_at_the_accuracy_that_it_reports(service: Service) -> None:
    samples = val_samples(service.client)
    answer = service.client.post("/predict", json={"instances": [sample["pixels"] for sample in samples]}).json()
    digits = [prediction["digit"] for prediction in answer["predictions"]]
    num_right = sum(digit == sample["label"] for digit, sample in zip(digits, samples, strict=True))
    assert len(samples) == 540
    assert num_right / 540 == pytest.approx(answer["model"]["val_accuracy"])
    assert num_right / 540 >= 0.98
    (run,) = service.client.get("/runs").json()["data"]
    assert (run["name"], run["id"]) == ("starter run", answer["model"]["run_id"])
    (handwriting,) = [each for each in service.client.get("/presets").json()["data"] if each["name"] == "handwriting"]
    assert run["config"] == handwriting["config"]
    assert handwriting["notebook"] == ""


def test_train_follows_the_default_run_to_a_good_model(service: Service) -> None:
    done = service.command("train", "--name", "defaults")
    assert done.returncode == 0, done.stderr
    run = service.client.get("/runs").json()["data"][0]
    assert (run["name"], run["status"]) == ("defaults", "succeeded")
    assert run["best"]["val_accuracy"] > 0.98


def test_predict_reads_a_single_image_from_a_file(service: Service, tmp_path: Path) -> None:
    sample = val_samples(service.client)[0]
    file = tmp_path / "image.json"
    file.write_text(json.dumps(sample["pixels"]))
    done = service.command("predict", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["digit"] == sample["label"]


def test_a_refused_configuration_names_the_place(service: Service) -> None:
    done = service.command("train", "--epochs", "0")
    assert done.returncode == 1
    assert "#/training/epochs" in done.stderr


def test_ctrl_c_during_train_cancels_the_run(service: Service) -> None:
    command = [*DIGITLAB, "train", "--name", "endless", "--epochs", "100000"]
    process = subprocess.Popen(command, env=service.environment, stderr=subprocess.DEVNULL)

    def newest() -> dict[str, Any]:
        run: dict[str, Any] = service.client.get("/runs").json()["data"][0]
        return run

    wait_for(lambda: newest()["name"] == "endless" and newest()["progress"]["epoch"] > 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    wait_for(lambda: newest()["status"] == "cancelled")


def test_up_says_the_pages_address_and_opens_it(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "BROWSER": str(browser),
        "DIGITLAB_PORT": url.rpartition(":")[2],
        "DIGITLAB_DATA_DIR": str(tmp_path),
    }
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([*DIGITLAB, "up", "--open", "--no-starter-run"], env=environment, stderr=stderr)
    try:
        wait_for(opened.exists)
        assert opened.read_text() == f"{url}\n"
        page = httpx2.get(url)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f"The page is at {url} " in log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_during_up_leaves_nothing_running(service: Service) -> None:
    """This must be the last test of the module, because it stops the service."""
    pid = service.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 2
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(PATIENCE_SECONDS) == 0
    assert not any(Path("/proc", child).exists() for child in children)

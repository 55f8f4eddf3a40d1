"""Makes the pictures of README.md and `docs/` anew: run by hand, in the repository's root, about four minutes.

    python -m tests.benchmarks.pictures

It starts `digitlab up` on an empty database, runs presets, and downloads what a client would, into `docs/pictures`.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from PIL import Image

from tests.benchmarks.sweep import run_sweep, serve

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SWEEPS = ("learning-rates", "practice", "dropout", "cross-validated")
COLOURS = 128
# Of a run of this preset, by file name.
DROPOUT = {
    "curves": "curves.png",
    "weights": "weights.png",
    "confusion": "confusion.png",
    "mistakes": "mistakes.png",
}
SLOW_AND_FAST = ("fullbatch-sigmoid", "fullbatch-sigmoid-fast", "fullbatch-tanh")


def save(client: httpx2.Client, path: str, name: str) -> int:
    """Download a picture and keep it with few colours; returns its size in bytes."""
    picture = client.get(path, timeout=60).raise_for_status().content
    file = FOLDER / f"{name}.png"
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(file, optimize=True)
    return file.stat().st_size


def train(client: httpx2.Client, preset: str) -> str:
    """A preset's run, once it has succeeded."""
    run_id: str = client.post("/runs", json={"preset": preset, "name": preset}).raise_for_status().json()["id"]
    while client.get(f"/runs/{run_id}").json()["status"] in ("queued", "running"):
        time.sleep(0.1)
    return run_id


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    total = 0
    with TemporaryDirectory(prefix="digitlab-pictures-") as folder, serve(Path(folder)) as client:
        for name in SWEEPS:
            seconds, sweep = run_sweep(client, {"preset": name})
            total += save(client, f"/sweeps/{sweep['id']}/report.png", name)
            print(f"{name}: {sweep['progress']['trials']} trials in {seconds:.1f} s", flush=True)
        run_id = train(client, "dropout-tanh")
        for name, picture in DROPOUT.items():
            total += save(client, f"/runs/{run_id}/{picture}", name)
        run_ids = [train(client, preset) for preset in SLOW_AND_FAST]
        total += save(client, f"/runs/{run_ids[0]}/gradients.png", "gradients")
        several = "&".join(f"run_id={each}" for each in run_ids)
        total += save(client, f"/charts/curves.png?log=true&{several}", "several-curves")
        total += save(client, "/datasets/digits/samples.png?split=train", "samples")
    print(f"{total:,} bytes in {FOLDER}")


if __name__ == "__main__":
    main()

"""Makes the README's pictures anew: run by hand, in the repository's root, about two minutes.

    python -m tests.benchmarks.pictures

It starts `digitlab up` on an empty database, runs presets, and downloads what a client would, into `.github/pictures`.
"""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from PIL import Image

from tests.benchmarks.sweep import run_sweep, serve

FOLDER = Path(__file__).parents[2] / ".github" / "pictures"
SWEEPS = ("learning-rates", "practice", "dropout", "cross-validated")
COLOURS = 128


def save(client: httpx2.Client, path: str, name: str) -> int:
    """Download a picture and keep it with few colours; returns its size in bytes."""
    picture = client.get(path, timeout=60).raise_for_status().content
    file = FOLDER / f"{name}.png"
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(file, optimize=True)
    return file.stat().st_size


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    total = 0
    with TemporaryDirectory(prefix="digitlab-pictures-") as folder, serve(Path(folder)) as client:
        for name in SWEEPS:
            seconds, sweep = run_sweep(client, {"preset": name})
            total += save(client, f"/sweeps/{sweep['id']}/report.png", name)
            print(f"{name}: {sweep['progress']['trials']} trials in {seconds:.1f} s", flush=True)
    print(f"{total:,} bytes in {FOLDER}")


if __name__ == "__main__":
    main()

"""What Schemathesis has to be told beyond the OpenAPI document; `schemathesis.toml` names this module."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

# JSON Schema cannot say "64 bytes an image, each from 0 to 16".
IMAGES = st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=3).map(
    lambda images: bytes(pixel % 17 for image in images for pixel in image)
)
schemathesis.openapi.media_type("application/octet-stream", IMAGES)

"""`/docs`: Swagger UI from this service alone, without internet and without a script in the page itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

# Its paths are relative, so that they hold behind a proxy that strips a prefix.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>digitlab: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


@router.get("/docs")
async def get_documentation() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE)


@router.get("/docs/start.js")
async def get_start_script() -> Response:
    """What the page runs."""
    return Response(_START, media_type="text/javascript")


def install(app: FastAPI) -> None:
    """Serve the page, and the files that it loads: Swagger UI's, which the package `fastapi-offline` holds."""
    app.include_router(router)
    found = find_spec("fastapi_offline")  # its own code is not needed
    assert found is not None
    assert found.origin is not None, "a package has a file"
    app.mount("/docs/assets", StaticFiles(directory=Path(found.origin).parent / "static"))

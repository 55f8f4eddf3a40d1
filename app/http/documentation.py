"""`/docs`: Swagger UI, from the package that ships it. The page needs no other host and no inline script."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

# Addresses are relative, so that a proxy may put the service under a path of its own.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>digitlab</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="operations"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#operations",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""
_NO_CACHE = {"Cache-Control": "no-cache"}


@router.get("/docs")
async def show_documentation() -> HTMLResponse:
    return HTMLResponse(_PAGE)


@router.get("/docs/start.js")
async def get_start_script() -> Response:
    return Response(_START, media_type="text/javascript", headers=_NO_CACHE)


@router.get("/docs/swagger-ui-bundle.js")
async def get_swagger_script() -> FileResponse:
    return _send("swagger-ui-bundle.js", "text/javascript")


@router.get("/docs/swagger-ui.css")
async def get_swagger_style() -> FileResponse:
    return _send("swagger-ui.css", "text/css")


@router.get("/docs/favicon-32x32.png")
async def get_swagger_icon() -> FileResponse:
    return _send("favicon-32x32.png", "image/png")


def _send(name: str, media_type: str) -> FileResponse:
    package = find_spec("fastapi_swagger")  # finds the package without importing it
    assert package is not None
    assert package.origin is not None
    return FileResponse(Path(package.origin).parent / "resources" / name, media_type=media_type, headers=_NO_CACHE)

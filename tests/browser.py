"""The browser of the tests: the system's Chromium, not one of Playwright's own, which CI does not download."""

from __future__ import annotations

import os
import shutil

import pytest

# The shell is the same browser without the frame around a page, and takes 40 % less of a CPU.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def need_browser() -> str:
    """The browser's path; without one the test is skipped, or fails in CI."""
    found = find_browser()
    if found is None:
        assert "CI" not in os.environ, ".ci/run installs Chromium"
        pytest.skip("no Chromium")
    return found

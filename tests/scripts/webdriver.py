"""A few commands of the WebDriver protocol over plain HTTP, enough to click through a page in headless Chromium."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # key of an element's name, fixed by the W3C


class Browser:
    """One browser session.

    Args:
        driver: address of the running chromedriver.
        binary: the browser.
        profile: empty folder for its profile and downloads.
    """

    def __init__(self, driver: str, binary: str, profile: Path) -> None:
        self._driver = driver
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--no-proxy-server", f"--user-data-dir={profile}"]
        preferences = {"download.default_directory": str(profile)}
        options = {"binary": binary, "args": arguments, "prefs": preferences}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self._call("POST", "/session", {"capabilities": capabilities})
        self._session = f"/session/{session['sessionId']}"

    def _call(self, verb: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._driver + path, data=data, method=verb)
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self._call("POST", f"{self._session}/url", {"url": page.resolve().as_uri()})

    def script(self, text: str) -> Any:
        """Run JavaScript; its ``return`` value comes back."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": text, "args": []})

    def click(self, selector: str) -> None:
        """Click as a user does: the element must be visible and not covered."""
        query = {"using": "css selector", "value": selector}
        element = self._call("POST", f"{self._session}/element", query)[_ELEMENT]
        self._call("POST", f"{self._session}/element/{element}/click", {})

    def close(self) -> None:
        self._call("DELETE", self._session)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A headless Chromium; skips the test where none is installed."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian packages chromium, chromium-driver)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}", "--silent"], stdout=subprocess.DEVNULL)
    try:
        session = Browser(_wait_for(f"http://127.0.0.1:{port}"), binary, folder)
        try:
            yield session
        finally:
            session.close()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            with opener.open(f"{address}/status", timeout=5) as answer:
                if json.load(answer)["value"]["ready"]:
                    return address
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise RuntimeError("chromedriver did not start")

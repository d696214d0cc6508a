"""A few commands of the WebDriver protocol over plain HTTP: enough to click through a page, without a screen."""

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


# Programs of each family, by the names under which they are installed: browser, its driver.
_CHROMIUM = (("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), ("chromedriver",))
_FIREFOX = (("firefox", "firefox-esr"), ("geckodriver",))


def _chromium_options(binary: str, folder: Path) -> dict[str, Any]:
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--no-proxy-server", f"--user-data-dir={folder}"]
    preferences = {"download.default_directory": str(folder)}
    options = {"binary": binary, "args": arguments, "prefs": preferences}
    return {"browserName": "chrome", "goog:chromeOptions": options}


def _firefox_options(binary: str, folder: Path) -> dict[str, Any]:
    preferences = {
        "browser.download.folderList": 2,  # the folder named next
        "browser.download.dir": str(folder),
        "browser.helperApps.neverAsk.saveToDisk": "text/csv",
        "network.proxy.type": 0,  # none
    }
    options = {"binary": binary, "args": ["-headless"], "prefs": preferences}
    return {"browserName": "firefox", "moz:firefoxOptions": options}


class Browser:
    """One browser session.

    Args:
        driver: address of the running driver.
        capabilities: which browser, and how it starts.
    """

    def __init__(self, driver: str, capabilities: dict[str, Any]) -> None:
        self._driver = driver
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
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


def _find_browser(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Driver and capabilities of the first browser that is installed with its driver."""
    for (browsers, drivers), options in ((_CHROMIUM, _chromium_options), (_FIREFOX, _firefox_options)):
        binary = next(filter(None, map(shutil.which, browsers)), None)
        driver = next(filter(None, map(shutil.which, drivers)), None)
        if binary is not None and driver is not None:
            return driver, options(binary, folder)
    return None


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A headless browser that keeps its downloads in ``folder``; skips the test where none is installed."""
    found = _find_browser(folder)
    if found is None:
        pytest.skip("needs Chromium with chromedriver or Firefox with geckodriver (Debian: chromium-driver)")
    driver, capabilities = found
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        session = Browser(_wait_for(f"http://127.0.0.1:{port}"), capabilities)
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
    raise RuntimeError(f"no driver answers at {address}")

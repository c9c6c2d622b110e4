"""A browser for tests of pages: Chromium, driven through two pipes by its DevTools protocol."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync --mute-audio "
    "--autoplay-policy=no-user-gesture-required --remote-debugging-pipe"
).split()


class Chromium:
    """A running browser; skips the test where there is none."""

    def __init__(self, profile: Path) -> None:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if path is None:
            pytest.skip("no Chromium on PATH")
        (their_input, self._output), (self._input, their_output) = os.pipe(), os.pipe()
        # The browser reads from 3 and writes to 4: give it descriptors other than these.
        given = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (their_input, their_output)]
        start = (
            f"os.dup2({given[0]}, 3); os.dup2({given[1]}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        )
        line = [
            sys.executable,
            "-c",
            f"import os, sys; {start}",
            path,
            *FLAGS,
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(line, pass_fds=given, stderr=subprocess.DEVNULL)
        for end in (their_input, their_output, *given):
            os.close(end)
        self._received = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.contexts: list[str] = []

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close")
        self._process.wait(timeout=60)
        os.close(self._input)
        os.close(self._output)

    def close_tabs(self) -> None:
        """Close all tabs and forget what they stored."""
        for context in self.contexts:
            self.call("Target.disposeBrowserContext", browserContextId=context)
        self.contexts.clear()
        self.events.clear()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event that has not been seen."""
        seen = len(self.events)
        while not any(
            e["method"] == method and e.get("sessionId") == session for e in self.events[seen:]
        ):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            part = os.read(self._input, 1 << 16)
            assert part, "the browser has gone"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)


class Tab:
    """A page in a window of its own, with storage of its own unless it shares another's.

    Args:
        width, height: of the window in CSS pixels, however narrow.
        dark: whether the reader prefers dark pages.
        scripts: whether they are allowed.
        before: a script that runs before the page's own.
        beside: a tab whose storage is shared.
    """

    def __init__(
        self,
        browser: Chromium,
        page: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        before: str = "",
        beside: Tab | None = None,
    ) -> None:
        self._browser = browser
        if beside:
            self._context = beside._context
        else:
            self._context = browser.call("Target.createBrowserContext")["browserContextId"]
            browser.contexts.append(self._context)
        target = browser.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        attached = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._call("Page.addScriptToEvaluateOnNewDocument", source=before)
        self._address = page.as_uri()
        self.load()

    def load(self) -> None:
        """Load the page, also once more."""
        self._call("Page.navigate", url=self._address)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        found = self._call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        about = {"key": name, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self._call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self) -> Image.Image:
        """What the window shows, RGB."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        return Image.open(BytesIO(b64decode(shot["data"]))).convert("RGB")

    @property
    def complaints(self) -> list[str]:
        """What the browser has to say against the page: exceptions, files that are not there."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [json.dumps(e["params"]) for e in self._events() if e["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = (e for e in self._events() if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

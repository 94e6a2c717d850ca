"""A real Chromium, driven over two pipes by its own protocol: no library, no port.

https://chromedevtools.github.io/devtools-protocol/; through the pipes go JSON messages, each ended by a zero byte.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The pipes must be file descriptors 3 and 4 of the browser.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")


def program() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page. `seen` is what the browser said of it: messages, errors, requests."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.seen: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self, **parameters)

    def open(self, path: Path, *, width: int, height: int = 900, scheme: str = "light", media: str = "screen") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.seen.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.browser.until(lambda: any(each["method"] == "Page.loadEventFired" for each in self.seen))

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def complaints(self) -> list[str]:
        """Whatever the browser's console holds."""
        said = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(each["params"]) for each in self.seen if each["method"] in said]

    def requests(self) -> list[str]:
        return [each["params"]["request"]["url"] for each in self.seen if each["method"] == "Network.requestWillBeSent"]


class Browser:
    def __init__(self, into: int, out: int) -> None:
        self.into = into
        self.out = out
        self.number = 0
        self.rest = b""
        self.pages: dict[str, Page] = {}
        self.answers: dict[int, dict[str, Any]] = {}

    def page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Log", "Runtime", "Network"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, page: Page | None = None, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        number = self.number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if page:
            message["sessionId"] = page.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        self.until(lambda: number in self.answers)
        answer = self.answers.pop(number)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def until(self, true: Any) -> None:
        """Read messages until it is true. pytest's time limit is the only one."""
        while not true():
            while b"\0" not in self.rest:
                more = os.read(self.out, 1 << 16)
                assert more, "the browser ended"
                self.rest += more
            text, _, self.rest = self.rest.partition(b"\0")
            message = json.loads(text)
            if "id" in message:
                self.answers[message["id"]] = message
            elif page := self.pages.get(message.get("sessionId", "")):
                page.seen.append(message)


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """The browser, with a profile in the folder; ended in the end."""
    name = program()
    assert name, f"none of {', '.join(NAMES)} is installed"
    theirs_in, into = os.pipe()
    out, theirs_out = os.pipe()
    # Numbers above 4, so that neither is overwritten when it becomes 3 or 4.
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs_in, theirs_out)]
    command = [sys.executable, "-c", START, *map(str, high), name, *FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for each in (theirs_in, theirs_out, *high):
        os.close(each)
    browser = Browser(into, out)
    try:
        yield browser
        browser.call("Browser.close")
    finally:
        os.close(into)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(out)

"""Headless Chromium, driven through its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websocket import WebSocket, create_connection

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

KEYS = {
    "Enter": ("Enter", 13),
    "Escape": ("Escape", 27),
    "Tab": ("Tab", 9),
    " ": ("Space", 32),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
    "PageUp": ("PageUp", 33),
    "PageDown": ("PageDown", 34),
    "Home": ("Home", 36),
    "End": ("End", 35),
    "Delete": ("Delete", 46),
}
"""Code and key code of keys that are not characters."""


class Tab:
    """One page of the browser."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._last = socket, 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.reset()

    def reset(self) -> None:
        """A desktop window and no emulated media; forgets the events so far."""
        self.size(1280, 800)
        self.media()
        self.events.clear()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command; events that arrive before it go to `events`."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, *, seconds: float = 10) -> Any:
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(condition)):
            assert time.monotonic() < end, (
                f"never true: {condition}; the page: {self.evaluate('document.body.innerText')}"
            )
            time.sleep(0.02)
        return value

    def open(self, url: str, *, ready: str = "true") -> None:
        self.send("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && ({ready})")

    def text(self, selector: str) -> str:
        """The visible text of the first element."""
        value = self.evaluate(f"document.querySelector({selector!r}).innerText")
        assert isinstance(value, str)
        return value

    def box(self, selector: str) -> dict[str, float]:
        """Left, top, width and height in the window, after scrolling there."""
        return self.evaluate(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'nearest'}});"
            "const {left, top, width, height} = e.getBoundingClientRect(); return {left, top, width, height}; })()"
        )

    def click(self, selector: str) -> None:
        """A real click at the element's centre; fails if something else is there."""
        box = self.box(selector)
        x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
        hit = f"document.elementFromPoint({x}, {y})"
        where = f"document.querySelector({selector!r})"
        assert self.evaluate(f"{where}.contains({hit}) || {hit}?.contains({where})"), f"{selector} is covered"
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def mouse(self, kind: str, x: float, y: float, *, wheel: float = 0) -> None:
        button = "left" if kind in ("mousePressed", "mouseReleased") else "none"
        held = 1 if kind == "mousePressed" else 0
        self.send(
            "Input.dispatchMouseEvent",
            **{"type": kind, "x": x, "y": y, "button": button, "buttons": held, "clickCount": 1},
            **({"deltaX": 0, "deltaY": wheel} if kind == "mouseWheel" else {}),
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=end[0], y=end[1], button="left", buttons=1)
        self.mouse("mouseReleased", *end)

    def key(self, key: str, *, shift: bool = False) -> None:
        code, number = KEYS[key] if key in KEYS else (f"Key{key.upper()}", ord(key.upper()))
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 * shift}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input, as the dialog does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def size(self, width: int, height: int, *, phone: bool = False, ratio: float = 1) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=phone
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)

    def media(self, **features: str) -> None:
        """Emulate media features, such as `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


class Chromium:
    """A running browser, with a profile of its own."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
        more = (
            "--no-proxy-server",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
        )
        self._process = subprocess.Popen(
            [CHROMIUM, *flags, *more, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port, end = profile / "DevToolsActivePort", time.monotonic() + 30
        while not (port.is_file() and port.read_text().count("\n")):
            assert self._process.poll() is None and time.monotonic() < end, "Chromium does not start"
            time.sleep(0.02)
        self._url = f"http://127.0.0.1:{port.read_text().split()[0]}"

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """An empty page."""
        with urlopen(Request(f"{self._url}/json/new?about:blank", method="PUT")) as answer:
            target = json.load(answer)
        socket = create_connection(
            target["webSocketDebuggerUrl"], suppress_origin=True, http_no_proxy=["127.0.0.1"], timeout=30
        )
        try:
            yield Tab(socket)
        finally:
            socket.close()
            with urlopen(f"{self._url}/json/close/{target['id']}") as answer:
                answer.read()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

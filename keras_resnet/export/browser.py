"""Folder of the format `web` -> its page in headless Chromium, which answers.

The folder is served on this machine's loopback address, as any server would serve it. The browser can reach nothing
else, and what it asks for is noted.
"""

import base64
import contextlib
import functools
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import ExportError, MissingDependencyError, reason
from keras_resnet.optional import require

EXTRA = "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
LONGEST_CALL_S = 600.0  # for one call: a large network answers a batch in some seconds
LONGEST_START_S = 120.0

# What the page gives and takes goes through JSON, with arrays as base64.
_CALL = """
async ([kind, content]) => {
  const text = (array) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.readAsDataURL(new Blob([array]));
  });
  const plain = async (value) => {
    if (ArrayBuffer.isView(value)) return {array: value.constructor.name, base64: await text(value)};
    if (Array.isArray(value)) return Promise.all(value.map(plain));
    if (value === null || typeof value !== "object") return value;
    const entries = Object.entries(value).map(async ([key, each]) => [key, await plain(each)]);
    return Object.fromEntries(await Promise.all(entries));
  };
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  return plain(await ask(kind, kind === "run" ? bytes : new Blob([bytes])));
}
"""
_TYPES = {
    "Uint8Array": "uint8",
    "Uint8ClampedArray": "uint8",
    "Int32Array": "int32",
    "Float32Array": "float32",
}

T = TypeVar("T")


class BrowserPage:
    """The page of a folder, opened in a browser until nobody refers to it."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []  # addresses that the page has asked for
        # Playwright's objects belong to the thread that made them, where no loop of asyncio may run.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        stack = contextlib.ExitStack()
        self._close = weakref.finalize(self, _end, self._thread, stack)
        try:
            self.address, self._page = self._within(LONGEST_START_S, _opened, stack, folder, self.requests)
            opened = self._ask("open")
        except BaseException:
            self._close()
            raise
        # Name, type and shape of each, with names for free sides.
        self.inputs: list[dict[str, Any]] = opened["inputs"]
        self.outputs: list[dict[str, Any]] = opened["outputs"]

    def run(self, pixels: np.ndarray) -> Answer:
        """Pixels uint8 `[N, H, W, 3]` of the network's size -> outputs by name."""
        found = self._ask("run", np.ascontiguousarray(pixels, "uint8").tobytes())
        return {each["name"]: found[each["name"]]["data"].reshape(found[each["name"]]["dims"]) for each in self.outputs}

    def pixels_of(self, image: bytes) -> np.ndarray:
        """Encoded image -> the pixels that the page gives its network, uint8 `[height * width * 3]`."""
        return np.asarray(self._ask("pixels", image))

    def answer_to(self, image: bytes) -> dict[str, Any]:
        """Encoded image -> answer of the page, in the form of `keras-resnet predict --json`, and its times."""
        answer: dict[str, Any] = self._ask("answer", image)
        return answer

    def _ask(self, kind: str, content: bytes = b"") -> Any:
        given = [kind, base64.b64encode(content).decode("ascii")]
        return _arrays(self._within(LONGEST_CALL_S, self._page.evaluate, _CALL, given))

    def _within(self, seconds: float, call: Callable[..., T], *arguments: Any) -> T:
        try:
            return self._thread.submit(call, *arguments).result(seconds)
        except FutureTimeout as error:
            raise ExportError(f"the browser gives no answer within {seconds:g} s") from error


def _opened(stack: contextlib.ExitStack, folder: Path, requests: list[str]) -> tuple[str, Any]:
    """Stack for what must be closed, folder, list for what is asked for -> address of the page, Playwright's page."""
    playwright = require("playwright.sync_api", EXTRA)
    address = stack.enter_context(_served(folder))
    driver = stack.enter_context(playwright.sync_playwright())
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        browser = driver.chromium.launch(
            executable_path=executable,  # None: a browser that Playwright itself has fetched
            args=["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-gpu"],
            # Chromium has no sandbox for root.
            chromium_sandbox=getattr(os, "geteuid", lambda: 1)() != 0,
        )
    except playwright.Error as error:
        what = f"{executable} can't be started: {reason(error)}" if executable else "none was found"
        raise MissingDependencyError(
            f"a page is verified in a browser, Chromium or Chrome, and {what}. Install one, for example by `apt-get "
            "install chromium` or `python -m playwright install chromium`"
        ) from error
    stack.callback(browser.close)
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    return address, page


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """`with _served(folder) as address:` a server on the loopback address sends the files of the folder."""
    handler = functools.partial(_Files, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class _Files(SimpleHTTPRequestHandler):
    # Some systems have other types in their registry.
    extensions_map = {  # noqa: RUF012  as its base has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: Any) -> None:
        """Prints nothing."""


def _end(thread: ThreadPoolExecutor, stack: contextlib.ExitStack) -> None:
    with contextlib.suppress(RuntimeError):  # Python itself ends, and the browser with it
        thread.submit(stack.close)
    thread.shutdown(wait=False)


def _arrays(value: Any) -> Any:
    """JSON of the page -> objects with arrays."""
    if isinstance(value, list):
        return [_arrays(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array", "base64"}:
        return np.frombuffer(base64.b64decode(value["base64"]), _TYPES[value["array"]])
    return {key: _arrays(each) for key, each in value.items()}

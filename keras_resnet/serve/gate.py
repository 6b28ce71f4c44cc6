"""The gate before the server's application: it limits how many requests are in work, their bodies and their time."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LONGEST_BODY_S = 30.0  # time in which a client must have sent its body


class Limits(NamedTuple):
    """What the gate lets through."""

    body_bytes: int
    requests: int  # with a body, at a time


class _Refused(Exception):
    """A request that the gate answers itself."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Gate:
    """ASGI application -> the application behind limits; requests without a body pass.

    The body of a request is read here, so that the application gets whole ones, and so that the memory for bodies is at
    most `requests` times `body_bytes`.
    """

    def __init__(self, application: Application, limits: Limits) -> None:
        self._application, self._limits = application, limits
        self.in_work = 0  # requests with a body
        self.closed = False  # whether the server is about to end

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._application(scope, receive, send)
            return
        try:
            self._check(scope)
        except _Refused as refused:
            await _refuse(refused, send)
            return
        self.in_work += 1
        try:
            body = await self._body(receive)
            await self._application(scope, _replayed(body, receive), send)
        except _Refused as refused:
            await _refuse(refused, send)
        finally:
            self.in_work -= 1

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        if self.closed:
            raise _Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "the server is about to end: send the request to another one"
            )
        if self.in_work >= self._limits.requests:
            raise _Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"the server has {self._limits.requests} requests in work, which is its limit: send the request again "
                "later",
            )
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            raise self._too_large()

    async def _body(self, receive: Receive) -> bytes:
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(LONGEST_BODY_S):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Refused(HTTPStatus.BAD_REQUEST, "the body ends early")
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self._limits.body_bytes:
                        raise self._too_large()
        except TimeoutError as error:
            raise _Refused(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {LONGEST_BODY_S:g} s"
            ) from error
        return b"".join(parts)

    def _too_large(self) -> _Refused:
        return _Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than the limit of {self._limits.body_bytes:,} bytes: send a smaller image, or fewer",
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Body that was read, function that receives -> function that receives the body once, and then waits."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(refused: _Refused, send: Send) -> None:
    content = json.dumps({"error": refused.text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if refused.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers.append((b"retry-after", b"1"))
    # After the refusal of a large body, the connection stays: uvicorn drops the rest, and the client can read the text.
    if refused.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.REQUEST_TIMEOUT):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(refused.status), "headers": headers})
    await send({"type": "http.response.body", "body": content})

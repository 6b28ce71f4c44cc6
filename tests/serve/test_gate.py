"""The limits before the server's application: bodies, requests in work, time, and the end of the server."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from keras_resnet.serve import gate
from keras_resnet.serve.gate import Gate, Limits

LIMITS = Limits(body_bytes=100, requests=2)


def request(parts: Iterable[bytes], length: int | None = None, method: str = "POST") -> tuple[dict[str, Any], Any]:
    """Parts of a body -> scope, function that receives them and then waits for ever."""
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return {"type": "http", "method": method, "headers": headers}, receive


async def answer(under_test: Gate, scope: dict[str, Any], receive: Any) -> tuple[int, dict[bytes, bytes], str]:
    """-> status, headers, text of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await under_test(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Application that answers with the body that it received."""
    message = await receive() if scope["method"] == "POST" else {"body": b"page", "more_body": False}
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_a_body_within_the_limit_comes_in_one_piece() -> None:
    assert asyncio.run(answer(Gate(echo, LIMITS), *request([b"a" * 60, b"b" * 40])))[::2] == (200, "a" * 60 + "b" * 40)


@pytest.mark.parametrize(("parts", "length"), [([], 101), ([b"a" * 60, b"b" * 41], None), ([b"a" * 101], 5)])
def test_a_larger_body_is_refused(parts: list[bytes], length: int | None) -> None:
    under_test = Gate(echo, LIMITS)
    status, _, text = asyncio.run(answer(under_test, *request(parts, length)))
    assert (status, under_test.in_work) == (413, 0)
    assert json.loads(text)["error"].startswith("the body is larger than the limit of 100 bytes")


def test_a_body_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LONGEST_BODY_S", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    status, headers, text = asyncio.run(answer(Gate(echo, LIMITS), request([])[0], receive))
    assert (status, headers[b"connection"]) == (408, b"close")
    assert "did not arrive within 0.01 s" in text


def test_a_client_that_leaves_ends_its_request() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    under_test = Gate(echo, LIMITS)
    assert asyncio.run(answer(under_test, request([])[0], receive))[0] == 400
    assert under_test.in_work == 0


def test_further_requests_are_refused_and_pages_are_not() -> None:
    async def answers() -> list[Any]:
        ends = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "POST":
                await ends.wait()
            await echo(scope, receive, send)

        under_test = Gate(waits, LIMITS)
        waiting = [asyncio.create_task(answer(under_test, *request([b"x"]))) for _ in range(2)]
        await asyncio.sleep(0)
        third = await answer(under_test, *request([b"x"]))
        page = await answer(under_test, *request([b"x"], method="GET"))
        under_test.closed = True
        late = await answer(under_test, *request([b"x"]))
        ends.set()
        return [third, late, page, *await asyncio.gather(*waiting)]

    third, late, page, *waited = asyncio.run(answers())
    assert (third[0], third[1][b"retry-after"]) == (429, b"1")
    assert "has 2 requests in work, which is its limit" in third[2]
    assert (late[0], late[1][b"connection"]) == (503, b"close")
    assert [each[0] for each in (page, *waited)] == [200] * 3

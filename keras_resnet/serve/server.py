"""Opened artifacts -> a running server, which ends without losing a request."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from keras_resnet.errors import ArgumentError
from keras_resnet.serve.application import gated_application
from keras_resnet.serve.gate import Gate, Limits
from keras_resnet.serve.model import ServedModel

LONGEST_END_S = 25  # for requests in work; Kubernetes kills a container 30 s after SIGTERM
_LONGEST_CLOSE_S = 3  # for connections after that
_CHECK_S = 0.02


def serve(
    models: Sequence[tuple[str, str | None, Any]],
    host: str,
    port: int,
    limits: Limits,
    tell: Callable[[str], None],
) -> None:
    """Name, version and predictor of each artifact, address, limits, function that is told the URL -> serves them until
    a signal asks the process to end.

    Args:
        port: Port; 0: any free one.

    Raises:
        ArgumentError: The address can't be listened on.
        KerasResnetError: An artifact can't answer.
    """
    listener = _listener(host, port)
    with listener, ThreadPoolExecutor(os.cpu_count() or 1, "decode") as pool:
        served = [ServedModel(name, version, predictor, pool) for name, version, predictor in models]
        for model in served:
            model.load()
        gate = gated_application(served, limits)
        config = uvicorn.Config(
            gate,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LONGEST_CLOSE_S,
        )
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{listener.getsockname()[1]}")
        _Server(config, gate).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ArgumentError(
            f"{host}:{port}: can't be listened on ({error.strerror or error}). Give another --host or --port"
        ) from error


class _Server(uvicorn.Server):
    """uvicorn's server, which first lets the requests in work end, and only then closes connections.

    uvicorn closes each connection at once of which it has read no request. That loses what a client has sent and the
    server has not read yet, which is the rule where a model blocks the event loop, as KServe's models do that have a
    plain `predict`: 2 or 3 of 8 requests were lost at SIGTERM. Here the event loop is free, the listener stays open
    until all requests in work are answered, and later ones get status 503.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        super().__init__(config)
        self._gate = gate

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_END_S):
                while self._gate.in_work and not self.force_exit:
                    await asyncio.sleep(_CHECK_S)
        await super().shutdown(sockets)

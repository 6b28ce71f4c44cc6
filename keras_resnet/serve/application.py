"""Served models -> the web application: KServe's routes of both protocols, versions, errors in our words, the page."""

import logging
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import kserve
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from kserve.errors import InferenceError, InvalidInput, ServerNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v1_endpoints import V1Endpoints, register_v1_endpoints
from kserve.protocol.rest.v2_datamodels import InferenceResponse
from kserve.protocol.rest.v2_endpoints import V2Endpoints, register_v2_endpoints
from starlette.exceptions import HTTPException

from keras_resnet import __version__
from keras_resnet.errors import ImageError, ImageTooLargeError, KerasResnetError, RequestError
from keras_resnet.page import page_with, policy_of
from keras_resnet.printable import printable
from keras_resnet.serve.gate import Gate, Limits
from keras_resnet.serve.model import ServedModel
from keras_resnet.serve.open_inference import NO_PROTOCOL, REQUEST_BODY, inference_request

# Routes of KServe that we leave out: anyone could unload a model; there are no explainers; the last two are ours below.
_LEFT_OUT = re.compile(r".*(/repository/|:explain$|/versions/|/infer$)")
_LOG = logging.getLogger("keras_resnet")


def gated_application(models: Sequence[ServedModel], limits: Limits) -> Gate:
    """Loaded models, the newest version of a name last; limits -> ASGI application behind its gate."""
    repository = _Repository(models)
    plane = _DataPlane(repository)
    application = FastAPI(
        title="keras-resnet serve",
        version=__version__,
        description="Images -> answers of ResNets, in KServe's protocol V1 and in the Open Inference Protocol V2.",
        docs_url=None,  # both pages load scripts from the internet
        redoc_url=None,
    )
    gate = Gate(application, limits)
    plane.gate = gate
    application.include_router(_own_routes(plane))  # first: the first route that fits is taken
    extension = ModelRepositoryExtension(model_registry=repository)
    for register in (register_v1_endpoints, register_v2_endpoints):
        register(_Chosen(application), plane, extension)
    for kind in (KerasResnetError, InvalidInput, InferenceError, ServerNotReady, HTTPException):
        application.add_exception_handler(kind, _told)
    application.add_exception_handler(Exception, _fault)
    return gate


class _Repository(kserve.ModelRepository):
    """The models by name; a version has the name `NAME/versions/VERSION`, which no part of a URL can hold."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        super().__init__()
        for model in models:
            self.models[model.name] = model
        self._versions = {_versioned(model.name, model.version): model for model in models if model.version}

    def get_model(self, name: str) -> ServedModel | None:
        return self._versions.get(name) or self.models.get(name)

    def versions_of(self, name: str) -> list[str]:
        """Name -> its versions."""
        return [model.version for model in self._versions.values() if model.name == name and model.version]


class _DataPlane(DataPlane):
    """KServe's data plane, with versions, and with errors for what KServe's readers raise on broken requests."""

    gate: Gate

    async def ready(self) -> bool:
        return not self.gate.closed

    def get_model_from_registry(self, name: str) -> Any:
        self.check_known(name)
        return super().get_model_from_registry(name)

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        self.check_known(model_name)
        return await super().model_ready(model_name, disable_predictor_health_check)

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        name = model_name.partition("/")[0]
        found = await super().model_metadata(model_name)
        return {**found, "name": name, "versions": self.model_registry.versions_of(name) or None}

    def decode(self, *arguments: Any, **named: Any) -> Any:
        try:
            return super().decode(*arguments, **named)
        except InvalidInput as error:
            raise RequestError(f"{NO_PROTOCOL}: {error}") from error
        except Exception as error:  # KServe reads what clients send without checks: KeyError, struct.error, and others
            raise RequestError(
                f"{NO_PROTOCOL}. Binary tensors must follow JSON of the length that the header "
                "Inference-Header-Content-Length states; image files in them must be text in base64"
            ) from error

    def check_known(self, name: str) -> None:
        if self.model_registry.get_model(name) is None:
            known = ", ".join(sorted(self.model_registry.get_models()))
            shown = name if len(name) <= 100 else name[:100] + "..."
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no model {shown}. Served are: {known}")


def _own_routes(plane: _DataPlane) -> APIRouter:
    """-> the page, metrics, and the routes of versions, in both protocols."""
    router, v1, v2 = APIRouter(), V1Endpoints(plane), V2Endpoints(plane)
    router.add_api_route("/", _page, response_class=HTMLResponse, tags=["Page"])
    router.add_api_route("/metrics", metrics_handler, tags=["Metrics"])

    async def v1_ready(model_name: str, model_version: str) -> Any:
        return await v1.model_ready(_versioned(model_name, model_version))

    async def v1_predict(model_name: str, model_version: str, request: Request) -> Any:
        return await v1.predict(_versioned(model_name, model_version), request)

    async def v2_metadata(model_name: str, model_version: str) -> Any:
        return await v2.model_metadata(_versioned(model_name, model_version))

    async def v2_ready(model_name: str, model_version: str) -> Any:
        return await v2.model_ready(_versioned(model_name, model_version))

    async def v2_infer(request: Request, response: Response, model_name: str, model_version: str = "") -> Any:
        name = _versioned(model_name, model_version) if model_version else model_name
        plane.check_known(name)
        return await v2.infer(request, response, name, await inference_request(request))

    one = "/models/{model_name}/versions/{model_version}"
    for path, function, method in (
        (f"/v1{one}", v1_ready, "GET"),
        (f"/v1{one}:predict", v1_predict, "POST"),
        (f"/v2{one}", v2_metadata, "GET"),
        (f"/v2{one}/ready", v2_ready, "GET"),
    ):
        router.add_api_route(path, function, methods=[method], response_model=None, tags=["Versions"])
    for path in ("/v2/models/{model_name}/infer", f"/v2{one}/infer"):
        router.add_api_route(
            path, v2_infer, methods=["POST"], response_model=InferenceResponse, tags=["V2"], openapi_extra=REQUEST_BODY
        )
    return router


def _versioned(name: str, version: str | None) -> str:
    return f"{name}/versions/{version}"


class _Chosen(NamedTuple):
    """Stands for the application where KServe registers its routes, and leaves some out."""

    application: FastAPI

    def include_router(self, router: APIRouter) -> None:
        router.routes[:] = [route for route in router.routes if not _LEFT_OUT.match(getattr(route, "path", ""))]
        self.application.include_router(router)


async def _page() -> HTMLResponse:
    """-> the page to try the models, which may load nothing from elsewhere and run no script but its own."""
    page = page_with("served.js")
    policy = f"{policy_of(page)}; connect-src 'self'; frame-ancestors 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


async def _told(request: Request, error: Exception) -> JSONResponse:
    """Error that has a text for the client -> response with it."""
    status, text = _status_of(error), str(error)
    if isinstance(error, HTTPException):
        text = _text_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("%s", printable(text))
    headers = getattr(error, "headers", None)
    return JSONResponse({"error": printable(text)}, int(status), headers=headers)


def _status_of(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    table = (
        (ImageTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        ((RequestError, ImageError, InvalidInput, InferenceError), HTTPStatus.BAD_REQUEST),
        (ServerNotReady, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    return next((status for kinds, status in table if isinstance(error, kinds)), HTTPStatus.INTERNAL_SERVER_ERROR)


def _text_of(error: HTTPException) -> str:
    """Error with an HTTP status -> its text, or ours instead of FastAPI's own."""
    if error.detail == HTTPStatus(error.status_code).phrase:
        return "there is nothing at this path for this method: /openapi.json lists what there is"
    return str(error.detail)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    """Any other exception is a fault of this package: its traceback goes to the log, and not to the client."""
    return JSONResponse(
        {"error": "this is a fault of keras-resnet: the server's log has the details"},
        int(HTTPStatus.INTERNAL_SERVER_ERROR),
    )

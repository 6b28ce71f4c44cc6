"""Body of a request in the Open Inference Protocol -> KServe's request, unless it is built to take long."""

from typing import Any

import orjson
from fastapi import Request
from kserve.constants.constants import INFERENCE_CONTENT_LENGTH_HEADER
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from pydantic import ValidationError

from keras_resnet.errors import RequestError

NO_PROTOCOL = "the body does not have the form of the protocol, which /openapi.json describes"
MOST_PARTS = 16  # inputs, outputs, parameters and sides of a tensor
REQUEST_BODY = {"requestBody": {"content": {"application/json": {"schema": InferenceRequest.model_json_schema()}}}}


async def inference_request(request: Request) -> InferenceRequest | bytes:
    """Request -> KServe's request, or the body if it holds binary tensors, which KServe reads itself.

    KServe's own route gives any JSON to pydantic, which makes an error for each wrong part of it: 18 MB of zeros
    instead of inputs took 4 GB of memory and minutes.

    Raises:
        RequestError: The body has another form, or too many parts.
    """
    body = await request.body()
    if INFERENCE_CONTENT_LENGTH_HEADER in request.headers:
        return body
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{NO_PROTOCOL}: it is no JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise RequestError(f"{NO_PROTOCOL}: it must be an object with a list of `inputs`")
    for tensors in (content["inputs"], content.get("outputs") or []):
        _check_few(tensors)
        for tensor in tensors:
            if not isinstance(tensor, dict):
                raise RequestError(f"{NO_PROTOCOL}: each input and output must be an object")
            _check_few(tensor.get("shape") or [])
            _check_few(tensor.get("parameters") or {})
    _check_few(content.get("parameters") or {})
    try:
        return InferenceRequest.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise RequestError(f"{NO_PROTOCOL}: {place}: {problem['msg']}") from error


def _check_few(parts: Any) -> None:
    if not isinstance(parts, (list, dict)) or len(parts) > MOST_PARTS:
        raise RequestError(
            f"{NO_PROTOCOL}: inputs, outputs, shapes and parameters must be lists or objects of at most "
            f"{MOST_PARTS} parts"
        )

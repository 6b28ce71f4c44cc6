"""An artifact as a model of KServe's Python server."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kserve
import numpy as np

from keras_resnet.answers import IMAGE, IMAGE_BYTES
from keras_resnet.errors import RequestError
from keras_resnet.predictor import Predictor
from keras_resnet.printable import printable
from keras_resnet.serve.answers import output_tensors, predictions, tensor_types
from keras_resnet.serve.images import images_of_instances, images_of_tensors

_TRIAL = np.full((64, 64, 3), 128, np.uint8)


class ServedModel(kserve.Model):
    """One artifact, or one version of it.

    Images are decoded and answered in the threads of `pool`. LiteRT and OpenVINO answer to one thread at a time. ONNX
    Runtime and TensorFlow answer to several.
    The server's own thread stays free to read requests.

    Args:
        name: Name in URLs.
        version: Version in URLs; None: it has none.
        predictor: The opened artifact.
        pool: Threads for all models of the server.
    """

    def __init__(self, name: str, version: str | None, predictor: Predictor, pool: ThreadPoolExecutor) -> None:
        super().__init__(name)
        self.version = version
        self._predictor, self._pool = predictor, pool
        self._outputs: list[dict[str, Any]] = []

    def load(self) -> bool:
        """Answers a first image -> whether the model is ready.

        Raises:
            KerasResnetError: The artifact can't answer, or a package is missing that its answers need.
        """
        predictions(self._predictor, [_TRIAL])
        self._outputs = tensor_types(output_tensors(self._predictor, [_TRIAL]))
        self.ready = True
        return self.ready

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """JSON of protocol V1, or `kserve.InferRequest` -> answer of the protocol, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, payload)

    def get_input_types(self) -> list[dict[str, Any]]:
        """-> inputs in the metadata of the Open Inference Protocol; a request has one of them."""
        return [
            {"name": IMAGE_BYTES, "datatype": "BYTES", "shape": [-1]},
            {"name": IMAGE, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        ]

    def get_output_types(self) -> list[dict[str, Any]]:
        """-> outputs in the metadata of the Open Inference Protocol."""
        return self._outputs

    def _answer(self, payload: Any) -> Any:
        if not isinstance(payload, kserve.InferRequest):
            return {"predictions": predictions(self._predictor, images_of_instances(payload))}
        found = output_tensors(self._predictor, images_of_tensors(payload.inputs))
        for wanted in payload.request_outputs or ():
            if wanted.name not in found:
                raise RequestError(
                    f"`outputs` must be some of {', '.join(found)}. Received: {printable(str(wanted.name)[:100])}"
                )
        outputs = []
        for row, (name, values) in zip(tensor_types(found), found.items(), strict=True):
            output = kserve.InferOutput(name, list(values.shape), row["datatype"])
            output.data = values
            outputs.append(output)
        return kserve.InferResponse(
            payload.id or str(uuid.uuid4()),  # the protocol lets it out, KServe's answers need it
            self.name,
            outputs,
            model_version=self.version,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

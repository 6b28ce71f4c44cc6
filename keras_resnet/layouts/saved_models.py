"""SavedModels as TensorFlow Serving reads them, and services that run it: version folder, warm-up, archive."""

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from keras_resnet.answers import DEFAULT_SIGNATURE, FILES_SIGNATURE, IMAGE_BYTES, PIXELS_SIGNATURE
from keras_resnet.errors import ExportError
from keras_resnet.export.files import GRAPH_FILE
from keras_resnet.layouts.given import Given, copy_artifact
from keras_resnet.optional import require
from keras_resnet.preprocessing import MEAN_COLOUR

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
TAG = "serve"  # tag of the graph that servers load
_WARMED = (DEFAULT_SIGNATURE, FILES_SIGNATURE, PIXELS_SIGNATURE)
_SIDE = 224  # height and width of an image for a network of any size


def write_version(given: Given, folder: Path) -> None:
    """SavedModel, new folder -> its copy, with a request to each signature that answers, for TensorFlow Serving to run
    when it loads the model: TensorFlow prepares much at the first request.
    """
    copy_artifact(given, folder)
    records = list(warm_up_records(given, signatures_in(folder)))
    warm_up = folder / WARM_UP_FILE
    warm_up.parent.mkdir(exist_ok=True)
    with require("tensorflow", None).io.TFRecordWriter(str(warm_up)) as writer:
        for record in records:
            writer.write(record)


def write_archive(given: Given, folder: Path) -> None:
    """SavedModel, new folder -> `model.tar.gz` in it, with the folder of `write_version` named by the version."""
    content = folder / str(given.version)
    content.mkdir()
    write_version(given, content)
    with (
        (folder / "model.tar.gz").open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in (content, *sorted(content.rglob("*"))):
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_anonymous)
    for path in sorted(content.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    content.rmdir()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Entry of an archive -> entry that all users of the server can read, without names and times of this machine."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def signatures_in(folder: Path) -> Mapping[str, Any]:
    """SavedModel -> its signatures by name (`SignatureDef`).

    Raises:
        ExportError: It has not one graph with the tag `serve`, or no default signature.
    """
    saved = require("tensorflow.core.protobuf.saved_model_pb2", None).SavedModel()
    saved.ParseFromString((folder / GRAPH_FILE).read_bytes())
    graphs = [graph for graph in saved.meta_graphs if TAG in graph.meta_info_def.tags]
    if len(graphs) != 1 or DEFAULT_SIGNATURE not in graphs[0].signature_def:
        raise ExportError(
            f"{folder}: a SavedModel for a server must have one graph with the tag {TAG!r} and the signature "
            f"{DEFAULT_SIGNATURE!r}. Export it again"
        )
    return dict(graphs[0].signature_def)


def warm_up_records(given: Given, signatures: Mapping[str, Any]) -> Iterator[bytes]:
    """Signatures of the SavedModel -> a serialized `PredictionLog` with one image for each that gives answers."""
    requests = require("tensorflow_serving.apis.predict_pb2", "tf-serving")
    logs = require("tensorflow_serving.apis.prediction_log_pb2", "tf-serving")
    for name in _WARMED:
        if name not in signatures:
            continue
        request = requests.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = given.name, name
        [(tensor, described)] = signatures[name].inputs.items()
        request.inputs[tensor].CopyFrom(_one_image(tensor, described, given))
        yield logs.PredictionLog(predict_log=logs.PredictLog(request=request)).SerializeToString()


def _one_image(tensor: str, described: Any, given: Given) -> Any:
    """Name of an input, its `TensorInfo` -> `TensorProto` of one image of one colour."""
    tf = require("tensorflow", None)
    height, width = (side or _SIDE for side in given.artifact.contract.sides)
    if tensor == IMAGE_BYTES:
        stream = io.BytesIO()
        Image.new("RGB", (width, height), MEAN_COLOUR).save(stream, "JPEG")
        return tf.make_tensor_proto([stream.getvalue()])
    sides = [dim.size for dim in described.tensor_shape.dim]
    free = (1, height, width, 3)
    shape = [side if side > 0 else other for side, other in zip(sides, free, strict=True)]
    return tf.make_tensor_proto(0.0, tf.dtypes.as_dtype(described.dtype), shape)


def notes(given: Given) -> tuple[str, ...]:
    """-> what a user of a service should know that sends all requests to the default signature."""
    if (given.artifact.description or {}).get("default_signature") == "jpeg":
        return ()
    return (
        "the service sends requests to the default signature, which takes pixels in this file. For image files, export "
        "it with --default-signature jpeg",
    )

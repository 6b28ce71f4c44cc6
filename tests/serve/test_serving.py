"""`keras-resnet serve`: answers of both protocols are the model's, hostile bodies are refused, nothing is lost at the
end."""

import base64
import contextlib
import importlib
import importlib.util
import io
import json
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from command_line import in_process
from pictures import jpeg, picture
from PIL import Image
from small_classifier import small_classifier
from small_detector import small_detector

from keras_resnet import load
from keras_resnet.export import export
from keras_resnet.export.artifact import open_artifact
from keras_resnet.loading import open_network
from keras_resnet.model_files import save_model
from keras_resnet.predictor import Predictor
from keras_resnet.serve.gate import Limits
from keras_resnet.serve.kserve_import import import_kserve
from keras_resnet.variants import InputContract, WholeImage

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
httpx = pytest.importorskip("httpx")
if importlib.util.find_spec("kserve") is None:
    pytest.skip("kserve is not installed: pip install 'keras-resnet-kit[serve]'", allow_module_level=True)

OLD = Path(__file__).parents[1] / "old_files"
CHECKS = Path(__file__).parents[2] / "checks"
NAMES = ["<b>cat</b>", "dog & cow", "crane"]
TASKS = ("classify", "tflite", "segment", "tag", "detect")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of different sizes and formats; one is turned by its EXIF orientation."""
    folder = tmp_path_factory.mktemp("images")
    for number, (height, width) in enumerate([(60, 80), (131, 77), (90, 90)]):
        (folder / f"{number}.jpg").write_bytes(jpeg(picture(height, width, number)))
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "3.jpg").write_bytes(jpeg(picture(50, 70, 3), exif=exif))
    Image.fromarray(picture(44, 99, 4)).save(folder / "4.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def artifacts(randomise: Callable, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A network of each task: artifacts, and files in Keras' form where an export would take long."""
    folder = tmp_path_factory.mktemp("networks")
    tagger = randomise(small_classifier("sigmoid", size=32, classes=3))
    save_model(tagger, folder / "tag.keras", NAMES, InputContract(32, 36), "tag", {"threshold": 0.0})
    save_model(small_detector(2), folder / "detect.keras", NAMES[:2], WholeImage(96, 96))
    made = {name: folder / f"{name}.keras" for name in ("tag", "detect")}
    old = {"classify": "classifier.onnx", "tflite": "classifier.tflite", "segment": "segmenter.onnx"}
    return {**made, **{name: OLD / file for name, file in old.items()}}


@pytest.fixture(scope="module")
def predictors(artifacts: Mapping[str, Path]) -> Mapping[str, Predictor]:
    return {name: load(path, threads=1) for name, path in artifacts.items()}


@pytest.fixture(scope="module")
def client(predictors: Mapping[str, Predictor]) -> Iterator[Any]:
    """The application with all networks, and two of them as versions 2 and 3 of one name."""
    with serving(predictors, {"2": "classify", "3": "tag"}) as found:
        yield found


@contextlib.contextmanager
def serving(predictors: Mapping[str, Predictor], versions: Mapping[str, str] = MappingProxyType({})) -> Iterator[Any]:
    """Networks by name, names by version of `two` -> client of an application with them in this process."""
    import_kserve()
    from fastapi.testclient import TestClient

    from keras_resnet.serve.application import gated_application
    from keras_resnet.serve.model import ServedModel

    with ThreadPoolExecutor(2) as pool:
        models = [ServedModel(name, None, predictor, pool) for name, predictor in predictors.items()]
        models += [ServedModel("two", version, predictors[name], pool) for version, name in versions.items()]
        for model in models:
            model.load()
        yield TestClient(gated_application(models, Limits(20_000_000, 64)))


def predictions(client: Any, name: str, instances: list[Any]) -> list[Any]:
    response = client.post(f"/v1/models/{name}:predict", json={"instances": instances})
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def inferred(client: Any, name: str, tensor: dict[str, Any]) -> dict[str, np.ndarray]:
    """-> outputs of the Open Inference Protocol, as arrays of their shapes."""
    response = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
    assert response.status_code == 200, response.text
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in response.json()["outputs"]}


def in_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def in_rows(path: Path, images: list[Path], folder: Path) -> list[dict[str, Any]]:
    """-> what `keras-resnet predict --json` writes about the images."""
    status, _, errors = in_process("predict", *images, "--model", path, "--json", folder / "rows.json")
    assert status == 0, errors
    return json.loads((folder / "rows.json").read_text())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("count", [1, 5])
def test_v1_answers_as_predict_does(client, artifacts, images, tmp_path, name, count) -> None:
    check_v1(client, artifacts, images[-count:], tmp_path, name)


def check_v1(client: Any, artifacts: Mapping[str, Path], given: list[Path], folder: Path, name: str) -> None:
    """Asserts that the predictions are what `predict --json` writes, and that masks are the model's."""
    found = predictions(client, name, [{"b64": in_base64(path)} for path in given])
    rows = in_rows(artifacts[name], given, folder)
    if name == "detect":
        flat = [(place, one) for place, each in enumerate(found, 1) for one in each["objects"]]
        assert len(flat) == len(rows) > len(given)
        for (place, one), row in zip(flat, rows, strict=True):
            box = [one["xmin"], one["ymin"], one["xmax"] - one["xmin"], one["ymax"] - one["ymin"]]
            assert (place, one["predicted_index"] + 1, one["score"]) == (
                row["image_id"],
                row["category_id"],
                row["score"],
            )
            assert box == row["bbox"]
            assert one["predicted"] == NAMES[one["predicted_index"]]
        return
    for one, row, path in zip(found, rows, given, strict=True):
        mask = one.pop("mask", None)
        assert one == {key: value for key, value in row.items() if value is not None and key != "file"}
        if name == "segment":
            [answer] = load(artifacts[name]).predict([path])
            picture_of_mask = np.array(Image.open(io.BytesIO(base64.b64decode(mask))))
            np.testing.assert_array_equal(picture_of_mask, answer["probabilities"].argmax(axis=-1))
        else:
            assert mask is None
            assert one["probabilities"] or name == "tag"  # a tagger may find no class


@pytest.mark.slow
def test_exported_taggers_and_detectors_answer_as_predict_does(artifacts, images, tmp_path) -> None:
    files = {}
    for name, classes in (("tag", NAMES), ("detect", NAMES[:2])):
        network, _ = open_network(str(artifacts[name]), None)
        files[name] = export(network, tmp_path / name, ["onnx"], class_names=classes).paths["onnx"]
    with serving({name: load(path) for name, path in files.items()}) as client:
        for name in files:
            check_v1(client, files, images, tmp_path, name)


@pytest.mark.parametrize("name", TASKS)
def test_v2_answers_are_the_models(client, predictors, images, name) -> None:
    predictor = predictors[name]
    given = images[:1] if name == "segment" else images
    expected = predictor.predict(given)
    texts = [in_base64(path) for path in given]
    found = inferred(client, name, {"name": "image_bytes", "shape": [len(given)], "datatype": "BYTES", "data": texts})
    if name == "segment":
        np.testing.assert_array_equal(found["mask"][0], expected[0]["probabilities"].argmax(axis=-1))
    elif name == "detect":
        for place, answer in enumerate(expected):
            for key, values in answer.items():
                np.testing.assert_array_equal(found[key][found["image_indices"] == place].astype("f4"), values)
    else:
        np.testing.assert_array_equal(
            found["probabilities"].astype("f4"), [answer["probabilities"] for answer in expected]
        )
        assert (np.diff(np.take_along_axis(found["probabilities"], found["indices"], 1)) <= 0).all()
        assert found["labels"].tolist() == [[predictor.class_names[i] for i in row] for row in found["indices"]]


@pytest.mark.parametrize("name", ["classify", "tflite"])
def test_an_artifact_answers_to_several_threads_at_a_time(artifacts, name) -> None:
    predictor = open_artifact(artifacts[name], 2, shared=True).predictor
    images = [picture(40, 50, seed) for seed in range(40)]
    expected = [answer["probabilities"] for image in images for answer in predictor.predict([image])]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: predictor.predict([image])[0]["probabilities"], images * 3))
    np.testing.assert_array_equal(found, expected * 3)


def test_pixels_are_a_decoded_image(client) -> None:
    pixels = picture(50, 70, 9)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    by_file, by_pixels = predictions(client, "classify", [{"b64": text}, pixels.tolist()])
    assert by_file == by_pixels
    for datatype, data in (("UINT8", pixels.ravel().tolist()), ("FP32", pixels.astype(float).ravel().tolist())):
        tensor = {"name": "image", "shape": [1, 50, 70, 3], "datatype": datatype, "data": data}
        found = inferred(client, "classify", tensor)
        assert found["probabilities"][0, by_file["predicted_indices"][0]] == pytest.approx(
            by_file["probabilities"][0], abs=1e-6
        )


def test_masks_of_different_sizes_need_requests_of_their_own(client, images) -> None:
    data = [in_base64(path) for path in images[:2]]
    tensor = {"name": "image_bytes", "shape": [2], "datatype": "BYTES", "data": data}
    response = client.post("/v2/models/segment/infer", json={"inputs": [tensor]})
    assert (response.status_code, "must have equal sizes" in response.text) == (400, True)


def test_versions_have_routes_and_the_newest_has_the_name(client, images) -> None:
    instances = [{"b64": in_base64(images[0])}]
    newest, older = predictions(client, "tag", instances), predictions(client, "classify", instances)
    assert newest != older
    assert predictions(client, "two", instances) == predictions(client, "two/versions/3", instances) == newest
    assert predictions(client, "two/versions/2", instances) == older
    assert client.get("/v2/models/two").json()["versions"] == ["2", "3"]
    assert client.get("/v2/models/two/versions/2/ready").json()["ready"]
    response = client.post("/v2/models/two/versions/4/infer", json={"inputs": []})
    assert (response.status_code, "there is no model two/versions/4" in response.text) == (404, True)


def test_metadata_states_the_outputs(client) -> None:
    outputs = {
        name: {row["name"]: row["datatype"] for row in client.get(f"/v2/models/{name}").json()["outputs"]}
        for name in TASKS
    }
    classes = {"probabilities": "FP32", "indices": "INT32", "labels": "BYTES"}
    assert outputs["classify"] == outputs["tag"] == outputs["tflite"] == classes
    assert outputs["segment"] == {"mask": "UINT8"}
    assert {"boxes", "scores", "labels", "image_indices"} <= outputs["detect"].keys()


def test_a_server_tells_about_itself(client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert [client.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]  # they would load scripts
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/models/{model_name}:predict" in paths
    assert not any("repository" in path or "explain" in path for path in paths)
    predictions(client, "classify", [picture(40, 50, 1).tolist()])
    assert 'request_predict_seconds_count{model_name="classify"}' in client.get("/metrics").text
    client.app.closed = True
    assert client.get("/v2/health/ready").status_code == 503
    client.app.closed = False


def test_the_page_loads_nothing_from_elsewhere(client) -> None:
    response = client.get("/")
    assert re.findall(r"https?://[^ \"']+", response.text) == []
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", response.text)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"'sha256-[\w+/=]{44}'", policy)) == 2


@pytest.fixture(scope="module")
def checks() -> Iterator[Any]:
    """Modules of the folder `checks`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKS)
        yield importlib.import_module


def test_hostile_bodies_get_our_text(client, checks) -> None:
    check = checks("served_bodies")
    kinds, wrong = set(), []
    for number, body in zip(range(80), check.bodies(7), strict=False):
        path = body.path.replace("NAME", ["classify", "segment", "detect"][number % 3])
        response = client.post(path, content=body.content, headers=body.headers)
        problem = check.wrong_with(response.status_code, response.text, 0)
        wrong += [f"{body.kind}: {problem}"] if problem else []
        kinds.add(body.kind)
    assert (wrong, len(kinds) >= 50) == ([], True)


def test_bodies_and_images_have_limits(client, monkeypatch) -> None:
    response = client.post("/v1/models/classify:predict", content=b" " * 20_000_001)
    assert (response.status_code, "20,000,000 bytes" in response.json()["error"]) == (413, True)
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "1000")
    instance = {"b64": base64.b64encode(jpeg(picture(50, 70, 1))).decode()}
    response = client.post("/v1/models/classify:predict", json={"instances": [instance]})
    assert (response.status_code, "too many pixels: it has 3,500" in response.json()["error"]) == (413, True)


def test_a_real_server_loses_nothing_at_sigterm(checks, images, tmp_path, artifacts) -> None:
    for version in ("1", "2"):
        (tmp_path / "net" / version).mkdir(parents=True)
        shutil.copy(artifacts["classify"], tmp_path / "net" / version / "model.onnx")
    predictor = load(artifacts["classify"])
    large = tmp_path / "large.jpg"
    large.write_bytes(jpeg(np.kron(picture(150, 200, 5), np.ones((12, 12, 1), np.uint8))))  # takes a while to decode
    [expected] = predictor.predict([large])
    with checks("serving_process").Serving([str(tmp_path / "net")]) as serving:
        assert serving.address.startswith("http://127.0.0.1:")
        statuses: list[Any] = []
        body = json.dumps(
            {"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [in_base64(large)]}]}
        )
        clients = [httpx.Client(base_url=serving.address, timeout=60) for _ in range(8)]
        for each in clients:
            each.get("/v2/health/live")  # the connection is open before the request

        def ask(one: Any) -> None:
            try:
                response = one.post("/v2/models/net/versions/1/infer", content=body)
                statuses.append((response.status_code, response.json()["outputs"][0]["data"]))
            except httpx.HTTPError as error:
                statuses.append(repr(error))

        threads = [threading.Thread(target=ask, args=(each,)) for each in clients]
        for thread in threads:
            thread.start()
        _wait_for_work(serving.address)
        serving.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert serving.process.wait(30) == 143
    assert [each[0] for each in statuses] == [200] * 8, statuses
    for _, found in statuses:
        np.testing.assert_array_equal(np.float32(found), expected["probabilities"])
    assert "Traceback" not in serving.errors
    assert serving.errors.splitlines()[-1].startswith(
        "terminated. All requests in work were answered. To start it again:"
    )


def _wait_for_work(address: str) -> None:
    """Returns when the server has begun to answer."""
    with contextlib.suppress(httpx.HTTPError):
        for _ in range(200):
            text = httpx.get(f"{address}/metrics").text
            if re.search(r'request_preprocess_seconds_count{model_name="net"} ([2-9]|\d\d)', text):
                return


def test_nvidias_client_gets_the_models_answers(checks, images, artifacts) -> None:
    """By JSON and by binary tensors."""
    triton = pytest.importorskip("tritonclient.http")
    predictor = load(artifacts["classify"])
    with (
        checks("serving_process").Serving([f"net={artifacts['classify']}"]) as serving,
        contextlib.closing(triton.InferenceServerClient(serving.address.removeprefix("http://"))) as client,
    ):
        assert client.is_server_live()
        assert client.is_model_ready("net")
        texts = np.array([in_base64(path).encode() for path in images], dtype=object)
        for binary in (True, False):
            given = triton.InferInput("image_bytes", [len(images)], "BYTES")
            given.set_data_from_numpy(texts, binary_data=binary)
            wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "labels")]
            found = client.infer("net", [given], outputs=wanted)
            expected = [answer["probabilities"] for answer in predictor.predict(images)]
            np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
            best = [predictor.class_names[np.argmax(each)].encode() for each in expected]
            assert [
                row[0] if isinstance(row[0], bytes) else row[0].encode() for row in found.as_numpy("labels")
            ] == best
        pixels = triton.InferInput("image", [1, 40, 60, 3], "UINT8")
        pixels.set_data_from_numpy(picture(40, 60, 2)[None], binary_data=True)
        [expected] = predictor.predict([picture(40, 60, 2)])
        np.testing.assert_array_equal(
            client.infer("net", [pixels]).as_numpy("probabilities")[0], expected["probabilities"]
        )

"""Load on `keras-resnet serve`: 32 clients on this machine, beside bare FastAPI with an equal session.

    python benchmarks/serving.py model.onnx IMAGES
    python benchmarks/serving.py model.onnx IMAGES --minutes 10 --clients 32 --out benchmarks/results/serving.json

Each client sends one image after the other, as JSON with base64, to one of the two servers. The servers take turns, so
that both meet the same machine. Every answer is compared with the model's own; wrong answers, lost requests, latency
and the server's memory over time make the record.

Bare FastAPI is the limit: a route that decodes the image and runs the artifact in FastAPI's threads, without protocol,
limits, metrics or a clean end. Both servers run the artifact by `open_artifact`, on as many threads.
"""

import base64
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from shared import finish

from keras_resnet.export.artifact import open_artifact
from keras_resnet.preprocessing import list_images

sys.path.append(str(Path(__file__).parents[1] / "checks"))
from serving_process import Serving

TURNS = 10
SAMPLE_S, WARM_UP_S = 1.0, 5.0
OURS, BARE = "keras-resnet serve", "bare FastAPI"
# `Serving` starts this instead of the command: FastAPI answers with the names of the five best classes.
BARE_SERVER = """
import base64, sys
import uvicorn
from fastapi import FastAPI, Request
from keras_resnet.export.artifact import open_artifact
predictor = open_artifact(sys.argv[1], shared=True).predictor
application = FastAPI()
@application.post("/v1/models/model:predict")
def predict(body: dict):
    images = [base64.b64decode(instance["b64"]) for instance in body["instances"]]
    found = [answer["probabilities"] for answer in predictor.predict(images)]
    order = [(-values).argsort(kind="stable")[:5] for values in found]
    return {"predictions": [
        {"predicted": [predictor.class_names[i] for i in best], "predicted_indices": best.tolist(),
         "probabilities": [round(float(values[i]), 6) for i in best]}
        for best, values in zip(order, found)
    ]}
config = uvicorn.Config(application, log_level="error", access_log=False)
listener = __import__("socket").create_server(("127.0.0.1", 0))
print(f"serving at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(config).run(sockets=[listener])
"""


class Load:
    """The requests of all clients to one server."""

    def __init__(self, serving: Serving, requests: list[bytes], expected: list[Any]) -> None:
        self.serving, self._requests, self._expected = serving, requests, expected
        self.latencies_ms: list[float] = []
        self.wrong, self.lost = 0, 0
        self.memory_mb: list[float] = []
        self.seconds = 0.0
        self._lock = threading.Lock()

    def run(self, clients: int, seconds: float) -> None:
        """Sends requests by so many clients for so many seconds."""
        end = time.perf_counter() + seconds
        threads = [threading.Thread(target=self._client, args=(number, end)) for number in range(clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        while time.perf_counter() < end:
            self.memory_mb.append(self.serving.resident_mb())
            time.sleep(SAMPLE_S)
        for thread in threads:
            thread.join()
        self.seconds += time.perf_counter() - start

    def _client(self, number: int, end: float) -> None:
        draw = random.Random(number)
        with httpx.Client(base_url=self.serving.address, timeout=120) as client:
            while time.perf_counter() < end:
                place, start = draw.randrange(len(self._requests)), time.perf_counter()
                try:
                    response = client.post(
                        "/v1/models/model:predict",
                        content=self._requests[place],
                        headers={"content-type": "application/json"},
                    )
                    right = response.status_code == 200 and response.json()["predictions"] == [self._expected[place]]
                except httpx.HTTPError:
                    with self._lock:
                        self.lost += 1
                    continue
                with self._lock:
                    self.latencies_ms.append(1000 * (time.perf_counter() - start))
                    self.wrong += not right

    def figures(self) -> dict[str, Any]:
        """-> figures of the record."""
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        half = len(self.memory_mb) // 2
        return {
            "answered": len(self.latencies_ms),
            "wrong": self.wrong,
            "lost": self.lost,
            "requests_per_s": round(len(self.latencies_ms) / self.seconds, 1),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
            "memory_middle_mb": round(float(np.median(self.memory_mb[half - half // 4 : half + half // 4 + 1])), 1),
            "memory_end_mb": round(float(np.median(self.memory_mb[-half // 2 or -1 :])), 1),
        }


def main(
    artifact: Annotated[Path, typer.Argument(help="Artifact of a classifier of at least five classes.")],
    images: Annotated[str, typer.Argument(help="Folder of images.")],
    minutes: Annotated[float, typer.Option(help="Minutes of load on each server.")] = 10.0,
    clients: Annotated[int, typer.Option(help="Number of clients.")] = 32,
    out: Annotated[Path | None, typer.Option(help="File for the record.")] = None,
) -> None:
    files = list_images([images])[:100]
    predictor = open_artifact(artifact).predictor
    expected = []
    for answer in predictor.predict(files):
        values = answer["probabilities"]
        best = np.argsort(-values, kind="stable")[:5]
        expected.append(
            {
                "predicted": [predictor.asked.name_of(i) for i in best],
                "predicted_indices": best.tolist(),
                "probabilities": [round(float(values[i]), 6) for i in best],
            }
        )
    requests = [
        json.dumps({"instances": [{"b64": base64.b64encode(file.read_bytes()).decode()}]}).encode() for file in files
    ]
    with Serving([f"model={artifact}"]) as ours, Serving([str(artifact)], code=BARE_SERVER) as bare:
        loads = {name: Load(serving, requests, expected) for name, serving in ((OURS, ours), (BARE, bare))}
        for serving in (ours, bare):
            Load(serving, requests, expected).run(clients, WARM_UP_S)
        for _ in range(TURNS):
            for load in loads.values():
                load.run(clients, 60 * minutes / TURNS)
        results = {name: load.figures() for name, load in loads.items()}
    finish(out, "serving", {"minutes": minutes, "clients": clients, "artifact": artifact.name}, results)
    print(f"p50 is {results[OURS]['p50_ms'] / results[BARE]['p50_ms']:.2f} times bare FastAPI's")
    if any(row["wrong"] or row["lost"] for row in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

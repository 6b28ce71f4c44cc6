"""ONNX file -> int8 in OpenVINO by NNCF, timed on request: the rival in int8_latency.py.

Runs in an environment with openvino and nncf and without this package. A line on stdin asks for so many runs; the
answer is a line of JSON with their milliseconds, or, to `predict FILE`, a file with the probabilities of the images.

    python benchmarks/openvino_int8.py model.onnx calibration.npy --threads 2
"""

import argparse
import json
import sys
import time

import nncf
import numpy as np
import openvino

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("calibration")
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()

pixels = np.load(arguments.calibration).astype("float32")
core = openvino.Core()
model = core.read_model(arguments.model)
model.reshape([1, *pixels.shape[1:]])
dataset = nncf.Dataset(pixels, lambda image: {"image": image[None]})
quantized = nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(pixels))
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": arguments.threads}
request = core.compile_model(quantized, "CPU", settings).create_infer_request()
image = pixels[:1]
print(json.dumps({"openvino": openvino.__version__, "nncf": nncf.__version__}), flush=True)
for line in sys.stdin:
    if line.startswith("predict"):
        images = np.load(line.split()[1]).astype("float32")
        np.save(line.split()[2], np.concatenate([request.infer({"image": i[None]})[0].copy() for i in images]))
        print(json.dumps(len(images)), flush=True)
        continue
    times_ms = []
    for _ in range(int(line)):
        start = time.perf_counter_ns()
        request.infer({"image": image})
        times_ms.append((time.perf_counter_ns() - start) / 1e6)
    print(json.dumps(times_ms), flush=True)

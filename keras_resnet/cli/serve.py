"""`keras-resnet serve`: artifacts -> a server that answers requests with images, and a page to try them."""

import os
from typing import Annotated

import typer

from keras_resnet.cli.interrupts import on_interrupt, this_command
from keras_resnet.cli.network import PrecisionOption, RuntimeOption, TrustOption
from keras_resnet.limits import PIXELS_VARIABLE
from keras_resnet.printable import printable

SERVED_PIXELS = 50_000_000  # largest image, where the environment sets no limit
THIS_MACHINE = "127.0.0.1"


def serve(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT...",
            help="Artifacts to serve, each as PATH or NAME=PATH: a SavedModel, OpenVINO or web folder, a .tflite or "
            ".onnx file, a folder that `export` wrote, or a folder of versions (PATH/1, PATH/2, ...). Without a "
            "name, the name of the file or folder is taken.",
            show_default=False,
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 0.0.0.0 lets everyone in who can reach this machine: the server asks for no "
            "password."
        ),
    ] = THIS_MACHINE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    max_body_megabytes: Annotated[
        int, typer.Option(min=1, max=1000, help="Largest body of a request; images in base64 take a third more.")
    ] = 20,
    max_requests: Annotated[
        int, typer.Option(min=1, max=10_000, help="Largest number of requests in work; further ones get status 429.")
    ] = 64,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Number of CPU threads for each artifact's runtime.", show_default="all"),
    ] = None,
    trust: TrustOption = False,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Serve artifacts over HTTP, in KServe's protocol V1 and in the Open Inference Protocol V2, with a page at /.

    The page takes a picture or the camera, and shows classes, masks or boxes. The server ends at Ctrl-C or SIGTERM,
    after it has answered what it has received.
    """
    from keras_resnet.export.artifact import open_artifact
    from keras_resnet.export.running import Running
    from keras_resnet.serve.gate import Limits
    from keras_resnet.serve.kserve_import import import_kserve
    from keras_resnet.serve.named_files import served_files

    running = Running(runtime, precision)
    files = served_files(artifacts, running)
    import_kserve()
    from keras_resnet.serve.server import serve as serve_models

    os.environ.setdefault(PIXELS_VARIABLE, str(SERVED_PIXELS))
    opened = [
        (file.name, file.version, open_artifact(file.path, threads, trust, running, shared=True).predictor)
        for file in files
    ]

    def tell(address: str) -> None:
        print(printable(f"serving {', '.join(dict.fromkeys(file.name for file in files))} at {address}"), flush=True)

    with on_interrupt(lambda: f"All requests in work were answered. To start it again: {this_command()}"):
        serve_models(opened, host, port, Limits(max_body_megabytes * 1_000_000, max_requests), tell)

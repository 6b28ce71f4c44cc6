"""Model -> artifacts, each verified as equal to the model before it gets its name.

    from keras_resnet.export import export
    report = export(model, "out", formats=["saved_model", "tflite-int8", "onnx"], calibration="images/")

Names are loaded on first use, so that the command line can check options against the table of formats without Keras.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.export.accuracy import LabelledImages
    from keras_resnet.export.formats import Options
    from keras_resnet.export.images import CalibrationImages
    from keras_resnet.export.pipeline import ExportReport, export

__all__ = ["CalibrationImages", "ExportReport", "LabelledImages", "Options", "export"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_resnet.export import pipeline

    return getattr(pipeline, name)

"""Model -> artifacts that were proved equal to it before they got their names.

from keras_resnet.export import export
report = export(model, "out", formats=["saved_model", "tflite-int8", "onnx"], calibration="images/")
"""

from keras_resnet.export.pipeline import ExportReport, export

__all__ = ["ExportReport", "export"]

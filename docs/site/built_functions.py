"""Extension of Griffe: the networks' functions, which the package builds from its tables when it is imported.

Griffe reads source without running it, and would find them without a signature and without a docstring.
"""

import importlib
import inspect
from typing import Any

import griffe

from keras_resnet.quiet import import_keras
from keras_resnet.variants import ARCHITECTURES, DETECTORS, VARIANTS

BUILT = {
    "": [variant.function for variant in VARIANTS.values()],
    "segmentation": [architecture.function for architecture in ARCHITECTURES.values()],
    "detection": list(dict.fromkeys(detector.function for detector in DETECTORS.values())),
}


class BuiltFunctions(griffe.Extension):
    """Puts the functions of `BUILT`, by module, into the package."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name != "keras_resnet":
            return
        import_keras()
        for module, names in BUILT.items():
            imported = importlib.import_module(f"keras_resnet.{module}" if module else "keras_resnet")
            place = pkg[module] if module else pkg
            for name in names:
                place.set_member(name, described(name, getattr(imported, name)))


def described(name: str, function: Any) -> griffe.Function:
    """Name, function -> what Griffe would read of its source."""
    signature = inspect.signature(function)
    parameters = [
        griffe.Parameter(
            parameter.name,
            kind=griffe.ParameterKind(parameter.kind.description),
            annotation=inspect.formatannotation(parameter.annotation),
            default=None if parameter.default is inspect.Parameter.empty else repr(parameter.default),
        )
        for parameter in signature.parameters.values()
    ]
    docstring = griffe.Docstring(inspect.cleandoc(function.__doc__), parser="google")
    return griffe.Function(
        name,
        parameters=griffe.Parameters(*parameters),
        returns="keras.Model",
        docstring=docstring,
    )

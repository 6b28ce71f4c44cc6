"""What may be imported where: the order of the parts, the lazy surface, TensorFlow's place; read from the source."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_resnet
from keras_resnet.variants import VARIANTS

PACKAGE = Path(keras_resnet.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A part may import from those before it. A folder is one part.
ORDER = (
    "printable",
    "errors",
    "recipes",
    "page",
    "optional",
    "whole_files",
    "one_writer",
    "regular_files",
    "plain_xml",
    "contained",
    "limits",
    "array_files",
    "whole_images",
    "quiet",
    "untuned",
    "versions",
    "environment",
    "answers",
    "image_files",
    "layer_names",
    "settings",
    "weights_from",
    "variants",
    "facts",
    "fused_batch_norm",
    "graph",
    "labels",
    "preprocessing",
    "resize",
    "blocks",
    "backbone",
    "boxes",
    "masks_in_boxes",
    "detection_layers",
    "heads",
    "file_kinds",
    "refused_pickles",
    "torch_files",
    "foreign_keras",
    "weight_files",
    "dialects",
    "checkpoints",
    "lookalikes",
    "pinned_files",
    "weights",
    "inference",
    "models",
    "segmentation",
    "detection",
    "freezing",
    "normalisation",
    "compress",
    "data",
    "evaluation",
    "tasks",
    "explain",
    "packing",
    "model_files",
    "predictor",
    "read_ahead",
    "evaluating",
    "training",
    "measure",
    "export",
    "fastest",
    "model_folders",
    "loading",
    "benchmark",
    "demo",
    "serve",
    "layouts",
    "cli",
)
STRANGERS = {frozenset(("training", "export"))}  # a model file is all that passes between them

PUBLIC = {
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "decode_predictions",
    "feature_maps",
    "freeze",
    "load",
    "load_image",
    "load_images",
}


def part_of(source: Path) -> str:
    """File of the package -> the part of `ORDER` it belongs to."""
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source: Path) -> Iterator[tuple[int, str]]:
    """File -> (line, dotted module) of each import, those inside functions included."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                folder = source.relative_to(PACKAGE.parent).parts[: -node.level]
                module = ".".join((*folder, *([module] if module else [])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def is_top_level(source: Path, line: int) -> bool:
    """Whether the statement on that line runs when the module is imported, which what types need alone does not."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    later = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return not any(node.lineno <= line <= (node.end_lineno or 0) for node in later)


def located(source: Path, line: int, what: str) -> str:
    return f"{source.relative_to(PACKAGE.parent)}:{line}: {what}"


def test_every_part_has_a_place_in_the_order() -> None:
    parts = {part_of(source) for source in SOURCES} - {"__init__", "__main__"}
    assert parts <= set(ORDER), f"give these a place in ORDER: {sorted(parts - set(ORDER))}"


def test_imports_point_only_downwards() -> None:
    wrong = []
    for source in SOURCES:
        part = part_of(source)
        if part not in ORDER:
            continue  # `__init__`, the surface, which imports on first use; or the test above fails
        for line, module in imports_of(source):
            package, _, name = module.partition(".")
            target = name.split(".")[0]
            if package != "keras_resnet" or target in (part, "__version__"):
                continue
            if target not in ORDER:
                wrong.append(located(source, line, f"imports {module}: import from the module where the name lives"))
            elif ORDER.index(target) > ORDER.index(part):
                wrong.append(located(source, line, f"{part} imports {target}, which is above it"))
            elif frozenset((part, target)) in STRANGERS:
                wrong.append(located(source, line, f"{part} imports {target}"))
    assert not wrong, "\n".join(wrong)


def test_tensorflow_is_imported_where_it_is_used() -> None:
    wrong = []
    for source in SOURCES:
        at_home = part_of(source) in ("data", "export")
        for line, module in imports_of(source):
            if module.split(".")[0] == "tensorflow" and not at_home and is_top_level(source, line):
                wrong.append(located(source, line, "imports TensorFlow at the top of the module"))
    assert not wrong, "\n".join(wrong)


def test_the_keras_inside_tensorflow_is_never_used() -> None:
    wrong = []
    for source in SOURCES:
        for line, module in imports_of(source):
            if module.startswith(("tensorflow.keras", "tensorflow.python.keras")):
                wrong.append(located(source, line, f"imports {module}"))
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tf.keras", "tensorflow.keras"):
                wrong.append(located(source, node.lineno, "uses tf.keras"))
    assert not wrong, "\n".join(wrong)


def test_library_code_has_no_assert_and_no_bare_except() -> None:
    wrong = [
        located(source, node.lineno, type(node).__name__)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and node.type is None)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["keras_resnet", "keras_resnet.cli.main"])
def test_importing_loads_no_framework(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = {name.split(".")[0] for name in json.loads(run.stdout)}
    assert not loaded & {"keras", "tensorflow", "jax", "torch"}
    assert module != "keras_resnet" or "numpy" not in loaded


def test_the_command_line_imports_keras_without_what_it_does_not_use() -> None:
    code = (
        "import gc, sys; from keras_resnet.quiet import import_keras; import_keras()\n"
        "print(sorted({'keras', 'sklearn', 'matplotlib'} & sys.modules.keys()), gc.isenabled())\n"
        "import matplotlib.pyplot, sklearn.base; print('later')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "No module named" in run.stderr:
        pytest.skip("Matplotlib or scikit-learn is not installed")
    assert (run.stdout.splitlines(), run.stderr) == (["['keras'] True", "later"], "")


def test_the_public_names_are_these_and_resolve() -> None:
    assert set(keras_resnet.__all__) == PUBLIC
    assert len(keras_resnet.__all__) == len(PUBLIC)
    for name in PUBLIC:
        assert callable(getattr(keras_resnet, name))
        assert name in dir(keras_resnet)


def test_type_checkers_are_told_of_every_network() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    told = [
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert told == [variant.function for variant in VARIANTS.values()]


def test_a_row_of_the_table_is_all_that_a_network_takes() -> None:
    code = (
        "import importlib, inspect; from dataclasses import replace; import keras_resnet\n"
        "from keras_resnet.variants import VARIANTS\n"
        "VARIANTS['resnet26'] = replace(VARIANTS['resnet20'], name='resnet26', blocks_per_stage=(4, 4, 4))\n"
        "importlib.reload(keras_resnet)\n"
        "from keras_resnet import *\n"
        "from keras_resnet.models import ResNet26 as same\n"
        "print(ResNet26 is same is keras_resnet.ResNet26, 'ResNet26' in dir(keras_resnet))\n"
        "print(ResNet26.__name__, ResNet26.__doc__[:16], inspect.signature(ResNet26).parameters['classes'].default)\n"
        "model = ResNet26(input_shape=(8, 8, 3)); print(model.name, model.layers[-5].name)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["True True", "ResNet26 ResNet26: pixels 10", "resnet26 stage4_block4_add"]


def test_a_public_module_loads_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(keras_resnet, "segmentation", raising=False)
    assert callable(keras_resnet.segmentation.UNet)
    assert "segmentation" in dir(keras_resnet)
    assert callable(keras_resnet.detection.MaskRCNN)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ResNet51'"):
        keras_resnet.ResNet51  # noqa: B018

"""The scheme of layer names. That the networks have these names is for the goldens of `test_structure.py`."""

import ast
import re
from pathlib import Path

import pytest

import keras_resnet
from keras_resnet import layer_names

PACKAGE = Path(keras_resnet.__file__).parent


def test_names_are_made_of_an_owner_and_a_part() -> None:
    block = layer_names.block(3, 2)
    assert block == "stage3_block2"
    unit, shortcut = layer_names.numbered(block, 1), layer_names.shortcut(block)
    assert [layer_names.pad(unit), layer_names.conv(unit), layer_names.bn(unit), layer_names.relu(unit)] == [
        "stage3_block2_1_pad",
        "stage3_block2_1_conv",
        "stage3_block2_1_bn",
        "stage3_block2_1_relu",
    ]
    assert [layer_names.conv(shortcut), layer_names.pool(shortcut)] == [
        "stage3_block2_shortcut_conv",
        "stage3_block2_shortcut_pool",
    ]
    assert [layer_names.add(block), layer_names.out(block)] == ["stage3_block2_add", "stage3_block2_out"]
    head = layer_names.AUXILIARY
    assert [layer_names.dropout(head), layer_names.upsample(head), layer_names.concat("decoder4")] == [
        "auxiliary_dropout",
        "auxiliary_upsample",
        "decoder4_concat",
    ]
    logits = layer_names.LOGITS
    assert [layer_names.of_head(logits), layer_names.of_head(logits, head)] == ["logits", "auxiliary_logits"]
    assert layer_names.fake_quant("stem_relu") == "stem_relu_fake_quant"


@pytest.mark.parametrize(("level", "part"), [("stem", "stem"), ("C2", "stage2"), ("C5", "stage5")])
def test_a_level_is_a_part_of_the_backbone(level: str, part: str) -> None:
    assert layer_names.backbone_part(level) == part


@pytest.mark.parametrize(
    ("layer", "stage", "is_stem", "is_out"),
    [
        ("stem_conv", None, True, False),
        ("stem", None, False, False),
        ("stage2_block1_1_conv", "stage2", False, False),
        ("stage12_block1_out", "stage12", False, True),
        ("stages_block1_out", None, False, True),
        ("my_stage2_block1", None, False, False),
        ("logits", None, False, False),
    ],
)
def test_names_are_read(layer: str, stage: str | None, is_stem: bool, is_out: bool) -> None:
    assert layer_names.stage_of(layer) == stage
    assert layer_names.is_of(layer, layer_names.STEM) is is_stem
    assert layer_names.is_out(layer) is is_out
    assert layer_names.is_of(layer, "stage1") is False


def test_they_are_spelled_nowhere_else() -> None:
    """Looked for are the spellings that no other thing has: whole strings, and the pieces of f-strings."""
    spelled = re.compile(
        r"(preprocessing|stem|stem_.*|aspp.*|decoder.*|auxiliary|auxiliary_(conv|logits|)|stage\d|stage\d_.*"
        r"|_block\d*|_(pad|conv|bn|relu|add|out|shortcut|upsample|concat|dropout|fake_quant)|_shortcut_.*)"
    )
    others = {("__init__.py", "preprocessing"), ("recipe.py", "stem")}  # the module; the level, of a type
    wrong = []
    for source in sorted(PACKAGE.rglob("*.py")):
        if source.name == "layer_names.py":
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and spelled.fullmatch(node.value):
                if (source.name, node.value) in others:
                    continue
                wrong.append(f"{source.relative_to(PACKAGE.parent)}:{node.lineno}: {node.value}")
    assert not wrong, "\n".join(wrong)

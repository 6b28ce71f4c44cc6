"""The options that commands have for tagging."""

from collections.abc import Mapping
from typing import Any

from keras_resnet.tasks.shared_options import THRESHOLD

TAG_OPTIONS: Mapping[str, Mapping[str, Any]] = {"predict": {"threshold": THRESHOLD}}

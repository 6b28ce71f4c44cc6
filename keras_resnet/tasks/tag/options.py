"""The options that commands have for tagging."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

TAG_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "predict": {
        "threshold": Annotated[
            float | None,
            typer.Option(
                min=0.0,
                max=1.0,
                help="Smallest probability at which a class is named. Only for tagging networks.",
                show_default="the model's threshold, or 0.5",
            ),
        ],
    },
}

"""A recipe, which has one of each part."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts.eval import Eval

if TYPE_CHECKING:
    from deeplab_tf.recipe.parts.protocols import (
        Augmentation,
        Dataset,
        Loss,
        ModelConfig,
        Optimizer,
        Predict,
        Schedule,
    )
    from deeplab_tf.recipe.parts.train import Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a result."""

    model: ModelConfig
    dataset: Dataset
    augment: tuple[Augmentation, ...]
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    train: Train
    predict: Predict = dataclasses.field(metadata={"may_change": True})
    eval: Eval = Eval()
    expected_mean_iou: float | None = None  # percent, as the source prints it

    def __post_init__(self) -> None:
        if isinstance(self.augment, list):
            object.__setattr__(self, "augment", tuple(self.augment))
        if not isinstance(self.augment, tuple):
            raise ValueError(f"augment must be a tuple of augmentations; got {self.augment!r}.")
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del parts["augment"], parts["expected_mean_iou"]
        for name, part in [*parts.items(), *(("augment", item) for item in self.augment)]:
            if not isinstance(part, Options):
                raise ValueError(
                    f"{name} must be made by the class of a part, as SGD() or RandomFlip();"
                    f" got {part!r}."
                )

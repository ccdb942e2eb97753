"""A recipe is everything that determines a result, as a list of parts.

Each part is one of several frozen dataclasses, its kinds, and builds itself. The protocols here
say what a kind must do; tables such as `training.schedules.SCHEDULES` name the kinds of a part,
and `zoo.PARTS` has all tables. The engine calls these methods and knows no kinds.
"""

from deeplab_tf.recipe.parts.eval import Eval
from deeplab_tf.recipe.parts.protocols import (
    Augmentation,
    BuiltOptimizer,
    Dataset,
    Loss,
    LossFn,
    Metric,
    ModelConfig,
    Optimizer,
    Predict,
    Predictor,
    Result,
    Schedule,
)
from deeplab_tf.recipe.parts.recipe import Recipe
from deeplab_tf.recipe.parts.train import Train

__all__ = [
    "Augmentation",
    "BuiltOptimizer",
    "Dataset",
    "Eval",
    "Loss",
    "LossFn",
    "Metric",
    "ModelConfig",
    "Optimizer",
    "Predict",
    "Predictor",
    "Recipe",
    "Result",
    "Schedule",
    "Train",
]

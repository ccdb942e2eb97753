"""The only file that knows every architecture: recipes and model configs by name."""

from __future__ import annotations

from deeplab_tf import recipes as deeplab_recipes
from deeplab_tf.config import ModelConfig, Recipe
from deeplab_tf.model import DeepLabV3Plus

RECIPES: dict[str, Recipe] = {**deeplab_recipes.RECIPES}

MODEL_CONFIGS: dict[str, type[ModelConfig]] = {DeepLabV3Plus.kind: DeepLabV3Plus}

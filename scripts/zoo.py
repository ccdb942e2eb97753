"""The only file that knows every architecture: recipes and model configs by name."""

from __future__ import annotations

from deeplab_tf import recipes as deeplab_recipes
from deeplab_tf.recipe.options import ModelConfig, Recipe
from deeplab_tf.model import DeepLabV3Plus
from jpu_tf import recipes as jpu_recipes
from jpu_tf.model import FastFCN

RECIPES: dict[str, Recipe] = {**deeplab_recipes.RECIPES, **jpu_recipes.RECIPES}

MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    config.kind: config for config in (DeepLabV3Plus, FastFCN)
}

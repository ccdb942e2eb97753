"""The recipes for ImageNet are those of Sec. 4.3 and Tab. 4, and the small one learns."""

import dataclasses

import pytest

from deeplab_tf import zoo
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.data.datasets import TfdsClasses
from deeplab_tf.imagenet_recipes import RECIPES
from deeplab_tf.recipe import as_json
from deeplab_tf.training.loop import train

TABLE_4 = {
    "imagenet_resnet101": ("resnet101", 0.0),
    "imagenet_xception65": ("xception65", 0.5),
    "imagenet_xception65_relu": ("xception65_relu", 0.5),
    "imagenet_xception65_plain": ("xception65_plain", 0.5),
}


def test_table_4_has_its_two_rows_and_the_two_forms_that_the_text_compares():
    assert RECIPES.keys() - TABLE_4.keys() == {"quickstart_classes"}


@pytest.mark.parametrize("name", TABLE_4)
def test_a_row_is_trained_as_the_paper_says(name):
    recipe = RECIPES[name]
    assert (recipe.model.backbone, recipe.model.dropout) == TABLE_4[name]
    assert recipe.model.output_stride == 32
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.kind, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.9, True)
    assert optimizer.weight_decay == 4e-5
    assert (schedule.kind, schedule.base_lr, schedule.factor) == ("step", 0.05, 0.94)
    assert schedule.every_epochs == 2.0 and schedule.warmup_steps == 0
    (crop,) = (part for part in recipe.augment if part.kind == "random_resized_crop")
    assert crop.size == recipe.predict.size == 299
    assert recipe.dataset == TfdsClasses(name="imagenet2012")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert recipe.model.backbone in BACKBONES
    assert recipe.eval.best_metric in recipe.predict.metrics
    assert recipe.expected_mean_iou is None
    assert as_json.from_json(as_json.to_json(recipe), zoo.PARTS) == recipe


@pytest.mark.slow  # draws and trains
def test_the_quickstart_starts_a_segmentation_quickstart(tmp_path):
    often = {"steps": 2, "batch_size": 4, "eval_every": 2, "save_every": 2, "log_every": 1}
    workdir, lines = str(tmp_path / "classes"), []
    recipe = RECIPES["quickstart_classes"]
    recipe = dataclasses.replace(
        recipe,
        dataset=recipe.dataset.replace(num_examples=8),
        train=recipe.train.replace(**often),
    )
    train(recipe, workdir=workdir, data_dir=str(tmp_path / "data"), print_fn=lines.append)
    assert any(line.startswith("step 2: val top-1 accuracy") for line in lines)
    trained = zoo.load_model(workdir, checkpoint="last", auxiliary=True)

    shapes = zoo.RECIPES["quickstart_shapes"]
    shapes = dataclasses.replace(
        shapes,
        dataset=shapes.dataset.replace(num_examples=8),
        train=shapes.train.replace(**often),
    )
    lines.clear()
    train(
        shapes,
        workdir=str(tmp_path / "shapes"),
        data_dir=str(tmp_path / "data"),
        init_model=trained,
        print_fn=lines.append,
    )
    (report,) = (line for line in lines if line.startswith("loaded "))
    backbone = [w for layer in trained.layers for w in layer.weights if "backbone_" in layer.name]
    assert report.startswith(f"loaded {len(backbone)} weights")

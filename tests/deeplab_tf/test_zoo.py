"""What every kind of every part of a recipe promises, and opening a workdir by its name."""

import dataclasses
import inspect

import pytest
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import save_recipe, save_spec


def _with_nested(kind: str, cls: type[Options]):
    """(key, class) of a kind and of the kinds of its own options."""
    yield kind, cls
    for field in dataclasses.fields(cls):
        for name, nested in (field.metadata["kinds"] or {}).items():
            yield from _with_nested(name, nested)


KINDS = [
    pytest.param(kind, cls, id=f"{part}-{kind}")
    for part, table in zoo.PARTS.items()
    if isinstance(table, dict)
    for key, row in table.items()
    for kind, cls in _with_nested(key, row)
]
CLASSES = [*KINDS, *(pytest.param(n, zoo.PARTS[n], id=n) for n in ("train", "eval"))]


def test_the_parts_are_the_fields_of_a_recipe_in_their_order():
    fields = [field.name for field in dataclasses.fields(Recipe)]
    assert [*zoo.PARTS, "expected_mean_iou"] == fields


@pytest.mark.parametrize(("kind", "cls"), KINDS)
def test_a_kind_is_called_by_its_key(kind, cls):
    assert cls.kind == kind
    assert "kind" not in {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(("name", "cls"), CLASSES)
def test_help_of_a_kind_is_one_short_sentence(name, cls):
    assert cls.__doc__ is not None and not cls.__doc__.startswith(f"{cls.__name__}(")
    line = inspect.getdoc(cls).splitlines()[0]
    assert 10 < len(line) <= 75
    assert line.endswith(".")


@pytest.mark.parametrize(("name", "cls"), CLASSES)
def test_every_option_has_a_help_text_and_a_flag(name, cls):
    values = flags.FlagValues()
    recipe_flags.define({"part": {name: cls}}, values)
    for field in dataclasses.fields(cls):
        assert field.metadata["help"] and not field.metadata["help"].endswith("."), field.name
        assert f"part.{field.name}" in values


@pytest.mark.parametrize(("name", "cls"), CLASSES)
def test_a_kind_is_frozen_and_compares_by_value(name, cls):
    required = {"steps": 1} if name == "train" else {}
    assert cls(**required) == cls(**required)
    assert hash(cls(**required)) == hash(cls(**required))


_MODEL = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False)
_RECIPE = dataclasses.replace(zoo.RECIPES["quickstart_shapes"], model=_MODEL)
_SPEC = DatasetSpec(
    name="toy",
    class_names=("a", "b", "c"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4},
)


def test_directory_that_is_no_workdir_is_refused(tmp_path):
    for load in (zoo.load_model, zoo.load_recipe):
        with pytest.raises(FileNotFoundError, match="no recipe.json in .* it must be the --workd"):
            load(str(tmp_path))


def test_load_model_takes_best_last_or_a_step(tmp_path):
    workdir = str(tmp_path)
    save_recipe(workdir, _RECIPE)
    save_spec(workdir, _SPEC)
    assert zoo.load_recipe(workdir) == _RECIPE
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        zoo.load_model(workdir)
    model = _MODEL.build(3)
    checkpointer = Checkpointer(workdir, model, _RECIPE.optimizer.build(model))
    bias = model.get_layer("logits").bias
    for step in (1, 2, 3):
        bias.assign([step, step, step])
        checkpointer.save(step)
        checkpointer.save_best(step, {1: 0.1, 2: 0.9, 3: 0.2}[step])

    def loaded(checkpoint):
        model = zoo.load_model(workdir, checkpoint=checkpoint, output_stride=8)
        assert model.dataset_spec == _SPEC
        return float(model.get_layer("logits").bias.numpy()[0])

    assert [loaded(which) for which in ("best", "last", 1)] == [2.0, 3.0, 1.0]

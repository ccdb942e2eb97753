"""What a workdir keeps of its recipe and its classes, and what it refuses."""

import dataclasses
import json

import keras
import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import load_recipe, load_spec, save_recipe, save_spec

_RECIPE = zoo.RECIPES["quickstart_shapes"]
_SPEC = DatasetSpec(
    name="toy",
    class_names=("a", "b", "c"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4},
)


def _changed(**parts):
    """The recipe with some options of some parts changed."""
    return dataclasses.replace(
        _RECIPE, **{name: getattr(_RECIPE, name).replace(**o) for name, o in parts.items()}
    )


def _add_checkpoint(workdir) -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(image))
    Checkpointer(str(workdir), model).save(1)


def test_recipe_of_another_run_is_refused_option_by_option(tmp_path):
    save_recipe(str(tmp_path), _RECIPE)
    _add_checkpoint(tmp_path)
    other = _changed(
        model={"output_stride": 8}, schedule={"base_lr": 0.5}, train={"log_every": 7, "seed": 2}
    )
    with pytest.raises(ValueError) as caught:
        save_recipe(str(tmp_path), other)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another recipe:\n"
        "  model.output_stride: 16 -> 8\n"
        "  schedule.base_lr: 0.05 -> 0.5\n"
        "  train.seed: 1 -> 2\n"
        "use another workdir, or the settings that the run was started with."
    )
    assert load_recipe(str(tmp_path), zoo.PARTS) == _RECIPE


def test_workdir_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    workdir = str(tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"the workdir .*file/run cannot be written: .*Not a dir"):
        save_recipe(workdir, _RECIPE)


def test_recipe_may_change_until_something_was_trained(tmp_path):
    save_recipe(str(tmp_path), _RECIPE)
    other = _changed(schedule={"base_lr": 0.5})
    save_recipe(str(tmp_path), other)
    assert load_recipe(str(tmp_path), zoo.PARTS) == other


def test_what_a_run_reports_and_how_it_predicts_may_change_between_starts(tmp_path):
    save_recipe(str(tmp_path), _RECIPE)
    _add_checkpoint(tmp_path)
    other = _changed(train={"log_every": 7}, eval={"absent_classes": "zero"})
    other = dataclasses.replace(other, predict=zoo.PREDICTS["sliding_window"]())
    save_recipe(str(tmp_path), other)
    assert load_recipe(str(tmp_path), zoo.PARTS) == other


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("schedule", {"kind": "poly", "base_lr": "fast"}, "schedule.base_lr must be a number; got"),
        ("predict", {"kind": "whole_image", "flip": "false"}, "predict.flip must be true or false"),
        ("model", {"kind": "unet"}, "unknown model.kind 'unet'; known: classifier, deeplabv3plus"),
        ("augment", {}, "augment must be a list; got {}."),
    ],
)
def test_damaged_recipe_is_refused_with_file_and_key(tmp_path, part, options, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**to_tree(_RECIPE), part: options}))
    with pytest.raises(ValueError) as caught:
        load_recipe(str(tmp_path), zoo.PARTS)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"version": 3}', b"\xff", b"[" * 10**5]
)
def test_file_that_is_no_recipe_is_refused_by_name_and_never_replaced(tmp_path, content):
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    _add_checkpoint(tmp_path)
    for use in (
        lambda: load_recipe(str(tmp_path), zoo.PARTS),
        lambda: save_recipe(str(tmp_path), _RECIPE),
    ):
        with pytest.raises(ValueError) as caught:
            use()
        assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", None, "name must be text; got None."),
        ("class_names", "abc", "class_names must be text,...; got 'abc'."),
        ("class_names", ["a", "b", 3], "class_names must be text,...; got ('a', 'b', 3)."),
        ("ignore_label", "255", "ignore_label must be an integer; got '255'."),
        ("ignore_label", 1, "dataset toy: ignore_label must not be one of the classes 0..2; got 1"),
        ("palette", [[0, 0]] * 3, "palette must be integer:integer:integer,...; got ((0, 0), "),
        ("palette", [[0, 0, 999]] * 3, "dataset toy: palette must have colors of 0..255; got"),
        ("palette", [[0, 0, 9]], "dataset toy: palette must have one color per class (3); got 1."),
        ("splits", [1], "splits must be text:integer,...; got (1,)."),
        ("splits", {"train": None}, "splits must be text:integer,...; got (('train', None),)."),
    ],
)
def test_damaged_spec_is_refused_with_file_and_key(tmp_path, key, value, message):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(_SPEC.to_json()), key: value}))
    with pytest.raises(ValueError) as caught:
        load_spec(str(tmp_path))
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 10**5, b"[" * 900])
def test_file_that_is_no_spec_is_refused_by_name(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset\.json: "):
        load_spec(str(tmp_path))


def test_directory_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe.json in .* it must be the --workdir"):
        load_recipe(str(tmp_path), zoo.PARTS)
    with pytest.raises(FileNotFoundError, match="no dataset.json in .* it must be the --workdir"):
        load_spec(str(tmp_path))


def test_other_classes_are_refused(tmp_path):
    save_spec(str(tmp_path), _SPEC)
    _add_checkpoint(tmp_path)
    assert load_spec(str(tmp_path)) == _SPEC
    other = dataclasses.replace(_SPEC, class_names=("a", "b", "d"))
    with pytest.raises(ValueError, match="was trained on the classes a, b, c"):
        save_spec(str(tmp_path), other)
    with pytest.raises(ValueError, match="with ignore_label 255; .* a, b, c with 254"):
        save_spec(str(tmp_path), dataclasses.replace(_SPEC, ignore_label=254))
    save_spec(str(tmp_path), dataclasses.replace(_SPEC, name="more", splits={"train": 5}))
    assert load_spec(str(tmp_path)).splits == {"train": 5}

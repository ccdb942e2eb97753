"""What a workdir keeps of its recipe and its classes, and what it refuses."""

import dataclasses
import json

import keras
import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import (
    check_recipe,
    load_recipe,
    load_spec,
    save_recipe,
    save_spec,
)

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


@pytest.fixture
def trained(tmp_path):
    """A workdir with a checkpoint."""
    save_spec(str(tmp_path), _SPEC)
    save_recipe(str(tmp_path), _RECIPE)
    _add_checkpoint(tmp_path)
    return tmp_path


def test_recipe_of_another_run_is_refused_option_by_option(trained):
    tmp_path = trained
    other = _changed(
        model={"output_stride": 8}, schedule={"base_lr": 0.5}, train={"log_every": 7, "seed": 2}
    )
    with pytest.raises(ValueError) as caught:
        check_recipe(str(tmp_path), other)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another recipe:\n"
        "  model.output_stride: 16 -> 8\n"
        "  schedule.base_lr: 0.05 -> 0.5\n"
        "  train.seed: 1 -> 2\n"
        "use another workdir, or the settings that the run was started with. train.py"
        " --resume_from=STEP continues from an earlier checkpoint with other settings of augment,"
        " loss, optimizer and schedule."
    )
    # On the way back, what comes after a checkpoint may differ, but not the network.
    with pytest.raises(ValueError, match=r"recipe:\n  model.output_stride: 16 -> 8\nuse another"):
        check_recipe(str(tmp_path), other, resume_from=1)
    check_recipe(
        str(tmp_path), _changed(schedule={"base_lr": 0.5}, train={"seed": 2}), resume_from=1
    )


def _write_metrics(workdir, rows):
    (workdir / "metrics.csv").write_text("step,loss\n" + rows)


def _write_picture(workdir):
    (workdir / "pictures").mkdir()
    (workdir / "pictures" / "val-0-1.png").write_bytes(b"")


def _write_best(workdir):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(image))
    Checkpointer(str(workdir), model).save_best(1, 0.5)


_TRACES = {
    "checkpoints": _add_checkpoint,
    "best weights": _write_best,
    "metrics.csv": lambda workdir: _write_metrics(workdir, "1,0.5\n"),
    "pictures": _write_picture,
}


@pytest.mark.parametrize("what", _TRACES)
def test_anything_of_a_run_keeps_the_workdir_for_its_recipe(tmp_path, what):
    save_spec(str(tmp_path), _SPEC)
    save_recipe(str(tmp_path), _RECIPE)
    _TRACES[what](tmp_path)
    check_recipe(str(tmp_path), _RECIPE)
    with pytest.raises(ValueError, match="holds a run of another recipe:\n  model.output_stride"):
        check_recipe(str(tmp_path), _changed(model={"output_stride": 8}))
    for name in ("recipe.json", "dataset.json"):
        (tmp_path / name).rename(tmp_path / "away")
        with pytest.raises(ValueError, match=f"holds {what} of a run, but no {name} with its "):
            check_recipe(str(tmp_path), _RECIPE)
        (tmp_path / "away").rename(tmp_path / name)


@pytest.mark.parametrize(
    ("rows", "line"), [("1,high\n", 2), ("1,2\nx,2\n", 3), ("1,2,3\n", 2), (",2\n", 2)]
)
def test_a_damaged_record_is_refused_before_training(tmp_path, rows, line):
    save_recipe(str(tmp_path), _RECIPE)
    _write_metrics(tmp_path, rows)
    with pytest.raises(
        ValueError, match=rf"metrics\.csv line {line} is not a row of step and numb"
    ):
        check_recipe(str(tmp_path), _RECIPE)


def test_a_record_without_rows_is_not_yet_a_run(tmp_path):
    _write_metrics(tmp_path, "1,0.5")  # part of a row, of a run that was killed
    check_recipe(str(tmp_path), _RECIPE)


def test_recipe_may_change_until_something_was_trained(tmp_path):
    save_recipe(str(tmp_path), _RECIPE)
    other = _changed(schedule={"base_lr": 0.5})
    check_recipe(str(tmp_path), other)
    save_recipe(str(tmp_path), other)
    assert load_recipe(str(tmp_path), zoo.PARTS) == other


def test_what_a_run_reports_and_how_it_predicts_may_change_between_starts(trained):
    other = _changed(train={"log_every": 7}, eval={"absent_classes": "zero"})
    other = dataclasses.replace(other, predict=zoo.PREDICTS["sliding_window"]())
    check_recipe(str(trained), other)
    save_recipe(str(trained), other)
    assert load_recipe(str(trained), zoo.PARTS) == other


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
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"version": 4}', b"\xff", b"[" * 10**5]
)
def test_file_that_is_no_recipe_is_refused_by_name_and_never_replaced(tmp_path, content):
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    save_spec(str(tmp_path), _SPEC)
    _add_checkpoint(tmp_path)
    for use in (
        lambda: load_recipe(str(tmp_path), zoo.PARTS),
        lambda: check_recipe(str(tmp_path), _RECIPE),
    ):
        with pytest.raises(ValueError) as caught:
            use()
        assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", None, "name must be text; got None."),
        ("class_names", "abc", "class_names must be a list; got 'abc'."),
        ("class_names", ["a", "b", 3], "class_names[2] must be text; got 3."),
        ("ignore_label", "255", "ignore_label must be an integer; got '255'."),
        ("ignore_label", 1, "dataset toy: ignore_label must not be one of the classes 0..2; got 1"),
        ("palette", [[0, 0]] * 3, "palette[0] must be a list of 3; got [0, 0]."),
        ("palette", [[0, 0, 999]] * 3, "dataset toy: palette[0] must be a color of 0..255; got"),
        ("palette", [[0, 0, 9]], "dataset toy: palette must have one color per class (3); got 1."),
        ("splits", [1], "splits must be an object; got [1]."),
        ("splits", {"train": None}, "splits.train must be an integer; got None."),
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

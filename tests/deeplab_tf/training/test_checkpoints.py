"""What a workdir keeps, and what reading it back refuses."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from deeplab_tf.training import checkpoints
from deeplab_tf.recipe.options import DataConfig, Recipe, TrainConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.training.optimizers import Momentum
from deeplab_tf.weights import weights_by_name

_CONFIGS = {"deeplabv3plus": DeepLabV3Plus}
_MODEL = DeepLabV3Plus(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False)
_RECIPE = Recipe(model=_MODEL, data=DataConfig(), train=TrainConfig(steps=10))
_SPEC = DatasetSpec(
    name="toy",
    class_names=("a", "b", "c"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4},
)


def _small_model(value: float) -> keras.Model:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(image))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value))
    return model


def test_restore_gives_weights_and_velocity_of_the_last_save(tmp_path):
    model = _small_model(1.0)
    optimizer = Momentum(model.trainable_variables, 0.9)
    checkpointer = checkpoints.Checkpointer(str(tmp_path), model, optimizer)
    assert checkpointer.restore() == 0
    for step in (1, 2):
        model.weights[0].assign(np.full(model.weights[0].shape, step))
        optimizer.slots[0].assign(np.full(optimizer.slots[0].shape, 10.0 * step))
        checkpointer.save(step)
    other = _small_model(0.0)
    other_optimizer = Momentum(other.trainable_variables, 0.9)
    restored = checkpoints.Checkpointer(str(tmp_path), other, other_optimizer).restore()
    assert restored == 2
    assert np.all(other.weights[0].numpy() == 2.0)
    assert np.all(other_optimizer.slots[0].numpy() == 20.0)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3 in .*; there: 1, 2\."):
        checkpointer.restore(3)


def test_weights_trained_at_one_output_stride_run_at_another(tmp_path):
    """The networks differ in their padding layers, and with them in the order of all layers."""
    config = DeepLabV3Plus(backbone="resnet_tiny", aspp_channels=8, decoder=False)
    trained = config.build(3, auxiliary=True)
    checkpoints.Checkpointer(str(tmp_path), trained).save(1)
    other = dataclasses.replace(config, output_stride=8).build(3)
    checkpoints.Checkpointer(str(tmp_path), other).restore()
    expected = {name: weight.numpy() for name, weight in weights_by_name(trained).items()}
    for name, weight in weights_by_name(other).items():
        np.testing.assert_array_equal(weight.numpy(), expected[name])


def test_only_the_last_checkpoints_are_kept(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0), max_to_keep=2)
    for step in (5, 10, 100):
        checkpointer.save(step)
    names = {name.split(".")[0] for name in os.listdir(checkpointer.directory)}
    assert names == {"ckpt-10", "ckpt-100"}


def test_leftovers_of_a_killed_save_are_neither_read_nor_kept(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0))
    checkpointer.save(1)
    directory = tmp_path / "checkpoints"
    (directory / "partial-2.index").write_bytes(b"half")
    (directory / "partial-2_temp").mkdir()
    (directory / "ckpt-2.data-00000-of-00001").write_bytes(b"renamed before its index")
    assert checkpointer.last_step() == 1
    checkpointer.save(3)
    assert not [name for name in os.listdir(directory) if name.startswith("partial")]
    assert checkpointer.restore() == 3


def test_best_is_replaced_by_a_better_one_alone(tmp_path):
    model = _small_model(1.0)
    checkpointer = checkpoints.Checkpointer(str(tmp_path), model)
    assert checkpointer.save_best(1, 0.5)
    model.weights[0].assign(model.weights[0] * 0)
    assert not checkpointer.save_best(2, 0.4)
    assert checkpointer.best() == (1, 0.5)
    assert checkpointer.restore_best() == 1
    assert np.all(model.weights[0].numpy() == 1.0)
    assert checkpointer.save_best(3, 0.6)
    assert checkpointer.best() == (3, 0.6)


def test_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    checkpoints.Checkpointer(str(tmp_path), _small_model(1.0)).save(7)
    other = _MODEL.build(2)
    with pytest.raises(ValueError, match="ckpt-7 does not fit this model or is damaged"):
        checkpoints.Checkpointer(str(tmp_path), other).restore()


def test_truncated_checkpoint_is_refused_by_name(tmp_path):
    model = _small_model(1.0)
    path = checkpoints.Checkpointer(str(tmp_path), model).save(7)
    with open(path + ".data-00000-of-00001", "r+b") as file:
        file.truncate(10)
    with pytest.raises(ValueError, match="ckpt-7 does not fit this model or is damaged"):
        checkpoints.Checkpointer(str(tmp_path), model).restore()


def test_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path):
    # A limit on the size of files stands for the full disk; it cannot be lifted again, so it is
    # set in a process of its own.
    script = f"""
        import resource, signal
        import keras, numpy as np
        from deeplab_tf.training import checkpoints

        image = keras.Input((None, None, 3))
        model = keras.Model(image, keras.layers.Conv2D(50000, 1)(image))
        checkpointer = checkpoints.Checkpointer({str(tmp_path)!r}, model)
        checkpointer.save(1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpointer.save(2)
        except OSError as error:
            print("OSError:", error)
        print("restored", checkpointer.restore())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(checkpoints.__file__)),
        check=False,
    )
    assert "OSError: could not save" in done.stdout, done.stderr[-2000:]
    assert "Intact: ckpt-1." in done.stdout
    assert "restored 1" in done.stdout
    left = sorted(os.listdir(tmp_path / "checkpoints"))
    assert left == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]


def test_recipe_of_another_run_is_refused_field_by_field(tmp_path):
    checkpoints.save_recipe(str(tmp_path), _RECIPE)
    checkpoints.Checkpointer(str(tmp_path), _small_model(1.0)).save(1)
    other = dataclasses.replace(
        _RECIPE,
        model=dataclasses.replace(_MODEL, output_stride=8),
        train=dataclasses.replace(_RECIPE.train, base_lr=0.5, log_every=7),
    )
    with pytest.raises(ValueError, match="holds a run of another recipe") as caught:
        checkpoints.save_recipe(str(tmp_path), other)
    assert "model.output_stride: 16 -> 8" in str(caught.value)
    assert "train.base_lr: 0.007 -> 0.5" in str(caught.value)
    assert "log_every" not in str(caught.value)
    assert checkpoints.load_recipe(str(tmp_path), _CONFIGS) == _RECIPE


def test_workdir_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    workdir = str(tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"the workdir .*file/run cannot be written: .*Not a dir"):
        checkpoints.save_recipe(workdir, _RECIPE)


def test_recipe_may_change_until_something_was_trained(tmp_path):
    checkpoints.save_recipe(str(tmp_path), _RECIPE)
    other = dataclasses.replace(_RECIPE, train=dataclasses.replace(_RECIPE.train, base_lr=0.5))
    checkpoints.save_recipe(str(tmp_path), other)
    assert checkpoints.load_recipe(str(tmp_path), _CONFIGS) == other


def test_how_often_to_log_may_change_between_starts(tmp_path):
    checkpoints.save_recipe(str(tmp_path), _RECIPE)
    checkpoints.Checkpointer(str(tmp_path), _small_model(1.0)).save(1)
    other = dataclasses.replace(_RECIPE, train=dataclasses.replace(_RECIPE.train, log_every=7))
    checkpoints.save_recipe(str(tmp_path), other)
    assert checkpoints.load_recipe(str(tmp_path), _CONFIGS) == other


def test_other_classes_are_refused(tmp_path):
    checkpoints.save_spec(str(tmp_path), _SPEC)
    checkpoints.Checkpointer(str(tmp_path), _small_model(1.0)).save(1)
    assert checkpoints.load_spec(str(tmp_path)) == _SPEC
    other = dataclasses.replace(_SPEC, class_names=("a", "b", "d"))
    with pytest.raises(ValueError, match="was trained on the classes a, b, c"):
        checkpoints.save_spec(str(tmp_path), other)


def test_directory_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe.json in .* it must be the --workdir"):
        checkpoints.load_model(str(tmp_path), _CONFIGS)


def test_load_model_takes_best_last_or_a_step(tmp_path):
    workdir = str(tmp_path)
    checkpoints.save_recipe(workdir, _RECIPE)
    checkpoints.save_spec(workdir, _SPEC)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoints.load_model(workdir, _CONFIGS)
    model = _MODEL.build(3)
    checkpointer = checkpoints.Checkpointer(
        workdir, model, Momentum(model.trainable_variables, 0.9)
    )
    bias = model.get_layer("logits").bias
    for step in (1, 2, 3):
        bias.assign([step, step, step])
        checkpointer.save(step)
        checkpointer.save_best(step, {1: 0.1, 2: 0.9, 3: 0.2}[step])

    def loaded(checkpoint):
        model = checkpoints.load_model(workdir, _CONFIGS, checkpoint=checkpoint, output_stride=8)
        return float(model.get_layer("logits").bias.numpy()[0])

    assert [loaded(which) for which in ("best", "last", 1)] == [2.0, 3.0, 1.0]

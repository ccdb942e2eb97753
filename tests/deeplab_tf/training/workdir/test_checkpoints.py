"""What checkpoints keep, and what reading them back refuses."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.optimizers import OPTIMIZERS, SGD
from deeplab_tf.training.workdir import checkpoints
from deeplab_tf.weights import weights_by_name


def _small_model(value: float) -> keras.Model:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(image))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value))
    return model


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_restore_gives_weights_and_slots_of_the_last_save(tmp_path, kind):
    model = _small_model(1.0)
    optimizer = OPTIMIZERS[kind]().build(model)
    checkpointer = checkpoints.Checkpointer(str(tmp_path), model, optimizer)
    assert checkpointer.restore() == 0
    for step in (1, 2):
        model.weights[0].assign(np.full(model.weights[0].shape, step))
        for i, slot in enumerate(optimizer.slots):
            slot.assign(np.full(slot.shape, 10.0 * step + i))
        checkpointer.save(step)
    other = _small_model(0.0)
    other_optimizer = OPTIMIZERS[kind]().build(other)
    restored = checkpoints.Checkpointer(str(tmp_path), other, other_optimizer).restore()
    assert restored == 2
    assert np.all(other.weights[0].numpy() == 2.0)
    for i, slot in enumerate(other_optimizer.slots):
        assert np.all(slot.numpy() == 20.0 + i)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3 in .*; there: 1, 2\."):
        checkpointer.restore(3)


def test_weights_trained_at_one_output_stride_run_at_another(tmp_path):
    """The networks differ in their padding layers, and with them in the order of all layers."""
    config = DeepLabV3PlusConfig(backbone="resnet_tiny", aspp_channels=8, decoder=False)
    trained = config.build(3, auxiliary=True)
    checkpoints.Checkpointer(str(tmp_path), trained).save(1)
    other = config.replace(output_stride=8).build(3)
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
    checkpoints.remove_incomplete(str(tmp_path))
    assert sorted(os.listdir(directory)) == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]
    assert checkpointer.restore() == 1


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


def test_no_score_is_no_best(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0))
    assert not checkpointer.save_best(1, float("nan"))
    assert checkpointer.save_best(2, 0.0)
    assert not checkpointer.save_best(3, float("nan"))
    assert checkpointer.best() == (2, 0.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": 1, "mean_iou": "0.5"}', "[" * 10**5])
def test_damaged_record_of_the_best_is_refused_by_name(tmp_path, text):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0))
    checkpointer.save_best(1, 0.5)
    (tmp_path / "best" / "best.json").write_text(text)
    with pytest.raises(ValueError, match=r"best/best\.json: .* Remove .*/best; the next"):
        checkpointer.best()


def test_best_without_its_weights_is_refused(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0))
    assert checkpointer.restore_best() == 0
    checkpointer.save_best(1, 0.5)
    (tmp_path / "best" / "ckpt-1.index").unlink()
    with pytest.raises(ValueError, match="best weights, of step 1, are missing in .*; use another"):
        checkpointer.restore_best()


def test_file_that_is_named_nearly_like_a_checkpoint_is_left_alone(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0), max_to_keep=1)
    (tmp_path / "checkpoints").mkdir()
    other = tmp_path / "checkpoints" / "ckpt-x.index"
    other.write_bytes(b"")
    for step in (1, 2):
        checkpointer.save(step)
    assert checkpointer.last_step() == 2
    assert other.exists()


def test_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    checkpoints.Checkpointer(str(tmp_path), _small_model(1.0)).save(7)
    other = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", decoder=False).build(2)
    with pytest.raises(ValueError, match="ckpt-7 does not fit this model or is damaged"):
        checkpoints.Checkpointer(str(tmp_path), other).restore()


def test_checkpoint_of_another_optimizer_is_refused(tmp_path):
    model = _small_model(1.0)
    checkpoints.Checkpointer(str(tmp_path), model, SGD().build(model)).save(7)
    adamw = OPTIMIZERS["adamw"]().build(model)
    with pytest.raises(ValueError, match="ckpt-7 does not fit this model or is damaged"):
        checkpoints.Checkpointer(str(tmp_path), model, adamw).restore()


def test_truncated_checkpoint_is_refused_by_name(tmp_path):
    model = _small_model(1.0)
    path = checkpoints.Checkpointer(str(tmp_path), model).save(7)
    with open(path + ".data-00000-of-00001", "r+b") as file:
        file.truncate(10)
    with pytest.raises(ValueError, match="ckpt-7 does not fit this model or is damaged"):
        checkpoints.Checkpointer(str(tmp_path), model).restore()


def test_full_disk_leaves_the_earlier_checkpoint_whole(root, tmp_path):
    # A limit on the size of files stands for the full disk; it cannot be lifted again, so it is
    # set in a process of its own.
    script = f"""
        import resource, signal
        import keras, numpy as np
        from deeplab_tf.training.workdir import checkpoints

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
        cwd=root,
        check=False,
    )
    assert "OSError: could not save" in done.stdout, done.stderr[-2000:]
    assert "Intact: ckpt-1." in done.stdout
    assert "restored 1" in done.stdout
    left = sorted(os.listdir(tmp_path / "checkpoints"))
    assert left == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]


def test_an_earlier_step_that_is_better_replaces_a_later_best(tmp_path):
    checkpointer = checkpoints.Checkpointer(str(tmp_path), _small_model(1.0))
    assert checkpointer.save_best(900, 0.5)
    better = checkpoints.Checkpointer(str(tmp_path), _small_model(2.0))
    assert better.save_best(600, 0.6)
    restored = _small_model(0.0)
    assert checkpoints.Checkpointer(str(tmp_path), restored).restore_best() == 600
    np.testing.assert_array_equal(restored.weights[0].numpy(), _small_model(2.0).weights[0].numpy())
    assert not list((tmp_path / "best").glob("ckpt-900*"))

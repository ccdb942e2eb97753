"""FastFCN in the training loop: replicas, and a whole run as in its recipes."""

import csv
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data.augment import RandomCrop, RandomFlip
from deeplab_tf.data.datasets import Folder, shapes
from deeplab_tf.recipe.parts import Recipe, Train
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.loop import train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import train_step
from deeplab_tf.weights import fit_weights, weights_by_name
from deeplab_tf.zoo import load_model
from jpu_tf.augment import RandomBlur, RandomShortSide
from jpu_tf.heads import Encoding
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow
from jpu_tf.upsamplers import JPU

_MODEL = FastFCNConfig(
    backbone="resnet_deep_stem_tiny",
    upsampler=JPU(channels=8),
    head=Encoding(channels=8, dropout=0.0),
)
_NEW = (("aux_", 10.0), ("head_", 10.0), ("jpu_", 10.0))


def _step(devices, batch, weights):
    """(results, weights and statistics) after a step over `devices`."""
    strategy = make_strategy("mirrored", devices)
    with strategy.scope():
        model = _MODEL.build(3, auxiliary=True)
        optimizer = SGD(weight_decay=1e-2, decay_on="all", lr_multipliers=_NEW).build(model)
        state = RunState()
    fit_weights(model, weights)
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=255)

    @tf.function
    def step(batch):
        results = strategy.run(
            train_step,
            args=(model, optimizer, state, _MODEL.losses(pixel_loss), batch),
            kwargs={"learning_rate": tf.constant(0.01)},
        )
        return tf.nest.map_structure(lambda r: strategy.experimental_local_results(r)[0], results)

    data = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    results = step(next(iter(strategy.experimental_distribute_dataset(data))))
    weights = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
    return {name: float(value) for name, value in results.items()}, weights


@pytest.mark.slow  # TensorFlow takes its time over the graph of two replicas
def test_a_step_of_two_replicas_equals_one_of_the_whole_batch():
    waves = 127 + 120 * np.sin(np.arange(48 * 48 * 3) / 5).reshape(48, 48, 3)
    image = np.stack([waves, waves[::-1] * 0.2, 255 - waves, waves[:, ::-1] * 0.6])
    label = image.mean(-1).astype(np.int32) // 86
    label[0, :30] = 255  # the replicas have unlike numbers of valid pixels
    label[2:] = np.minimum(label[2:], 1)  # and unlike classes
    batch = {"image": image.astype(np.float32), "label": label}
    keras.utils.set_random_seed(0)
    source = _MODEL.build(3, auxiliary=True)
    weights = {name: w.numpy() for name, w in weights_by_name(source).items()}
    whole, after_whole = _step(("CPU:0",), batch, weights)
    halves, after_halves = _step(("CPU:0", "CPU:1"), batch, weights)
    assert {*whole} == {
        "loss", "gradient_norm", "loss_logits", "loss_aux_logits", "loss_se_logits",
        "skipped_steps", "skipped_in_a_row",
    }  # fmt: skip
    for name, value in whole.items():
        tolerance = 1e-3 if name == "gradient_norm" else 1e-5
        np.testing.assert_allclose(halves[name], value, rtol=tolerance, err_msg=name)
    for name, value in after_whole.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(after_halves[name], value, atol=1e-5 * scale, err_msg=name)


@pytest.fixture
def photos(tmp_path):
    """Six photos and labels, two of them for validation."""
    for index in range(6):
        split = "val" if index < 2 else "train"
        for kind, picture in zip(("images", "labels"), shapes.draw("train", index), strict=True):
            path = tmp_path / split / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[:64, :80]).save(path)
    (tmp_path / "classes.txt").write_text("\n".join(shapes.CLASS_NAMES))
    return tmp_path


def test_a_run_ends_with_the_network_alone_and_its_weights(photos, tmp_path):
    recipe = Recipe(
        model=_MODEL,
        dataset=Folder(
            images_dir=str(photos / "train" / "images"),
            labels_dir=str(photos / "train" / "labels"),
            val_images_dir=str(photos / "val" / "images"),
            val_labels_dir=str(photos / "val" / "labels"),
            class_names_file=str(photos / "classes.txt"),
        ),
        augment=(
            RandomFlip(),
            RandomShortSide(short_side=64),
            RandomCrop(size=48, pad_color=0.0),
            RandomBlur(),
        ),
        optimizer=SGD(lr_multipliers=_NEW, decay_on="all"),
        schedule=Poly(),
        loss=CrossEntropy(),
        train=Train(steps=2, batch_size=2, log_every=1, eval_every=2),
        predict=SlidingWindow(long_side=72, window_size=48),
    )
    workdir = tmp_path / "run"
    model = train(recipe, workdir=str(workdir), print_fn=lambda line: None)
    loaded = load_model(str(workdir), checkpoint="last")
    image = np.full((1, 48, 48, 3), 90.0, np.float32)
    np.testing.assert_array_equal(model(image, training=False), loaded(image, training=False))
    assert not [name for name in weights_by_name(model) if name.startswith("aux_")]
    for_training = [load_model(str(workdir), checkpoint="last", auxiliary=True) for _ in range(2)]
    aux = [weights_by_name(found)["aux_logits/kernel"].numpy() for found in for_training]
    np.testing.assert_array_equal(*aux)  # read, not randomly initialized
    with open(workdir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "loss_logits", "loss_aux_logits", "loss_se_logits"} < rows[0].keys()
    assert 0 <= float(rows[-1]["val_mean_iou"]) <= 1
    assert train(recipe, workdir=str(workdir), print_fn=lambda line: None) is not None

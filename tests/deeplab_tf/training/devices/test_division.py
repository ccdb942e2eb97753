"""However replicas and parts divide a batch, it trains alike, with dropout and augmentation on."""

import dataclasses
import functools
import pickle
import subprocess
import sys
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.layers import BatchNorm, Dropout, SpatialDropout2D
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe.options import Options, option
from deeplab_tf.training.devices.selfcheck import train_steps
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import compiled_step
from jpu_tf.heads import ASPP, Encoding
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU

_DEVICES = ("CPU:0", "CPU:1")
_STEPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Dropping(Options):
    """Both kinds of dropout, batch normalization and two layers."""

    kind: ClassVar[str] = "dropping"

    batch_norm: str = option("synchronized", "statistics of batch normalization")
    dropout: float = option(0.5, "share that is dropped")

    def build(self, num_classes, input_shape=(None, None, 3), *, auxiliary=False):
        image = keras.Input(input_shape)
        x = keras.layers.Conv2D(5, 3, strides=4, name="conv")(image / 255)
        x = BatchNorm(statistics=self.batch_norm, name="bn")(x)
        x = Dropout(self.dropout, name="dropout")(x)
        x = SpatialDropout2D(self.dropout, name="spatial_dropout")(x)
        logits = keras.layers.Conv2D(num_classes, 1, name="logits")(x)
        return keras.Model(image, {"logits": logits} if auxiliary else logits)

    def losses(self, pixel_loss):
        return {"logits": (pixel_loss, 1.0)}


# Normalized by statistics that do not change, so that parts equal the whole too.
_NETWORKS = {
    "deeplab": DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny",
        atrous_rates=(1, 2),
        aspp_channels=8,
        low_level_channels=4,
        decoder_convs=((3, 8), (3, 8)),
        dropout=0.5,
        batch_norm="frozen",
    ),
    "fastfcn_aspp": FastFCNConfig(
        backbone="resnet_tiny",
        upsampler=JPU(channels=8),
        head=ASPP(channels=8, dropout=0.3, aspp_dropout=0.5),
        batch_norm="frozen",
    ),
    "fastfcn_encoding": FastFCNConfig(
        backbone="resnet_deep_stem_tiny",
        upsampler=JPU(channels=8),
        head=Encoding(channels=8, dropout=0.5),
        batch_norm="frozen",
    ),
    "classifier": ClassifierConfig(backbone="xception_tiny", dropout=0.5, batch_norm="frozen"),
}


@pytest.fixture
def float64():
    """Layers compute in float64, so that rounding is small whatever the network multiplies."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def _train(recipe, replicas, parts=1):
    recipe = _in_parts(recipe, parts)
    strategy = make_strategy("mirrored", _DEVICES[:replicas])
    return train_steps(recipe, recipe.dataset.open(None), strategy, _STEPS)


def _in_parts(recipe, parts):
    return dataclasses.replace(recipe, train=recipe.train.replace(accumulation_steps=parts))


def _check_equal(divided, whole):
    """Checks that two trainings are one, but for rounding in float64."""
    for mine, expected in zip(divided[1:], whole[1:], strict=True):
        assert mine.loss == pytest.approx(expected.loss, rel=1e-12)
        for name, value in {**expected.weights, **expected.statistics}.items():
            found = {**mine.weights, **mine.statistics}[name]
            np.testing.assert_allclose(found, value, atol=1e-11, err_msg=name)


def test_two_replicas_drop_what_one_drops(float64, photos, recipe_of):
    recipe = recipe_of(photos, model=_Dropping())
    whole = _train(recipe, 1)
    _check_equal(_train(recipe, 2), whole)
    # Other masks would show: without dropout it is another training.
    plain = _train(dataclasses.replace(recipe, model=_Dropping(dropout=0.0)), 1)
    assert abs(whole[1].loss / plain[1].loss - 1) > 1e-3


def test_parts_of_a_batch_drop_what_the_whole_drops(float64, photos, recipe_of):
    recipe = recipe_of(photos, model=_Dropping(batch_norm="frozen"))
    whole = _train(recipe, 1)
    for replicas, parts in ((1, 2), (1, 4), (2, 2)):
        _check_equal(_train(recipe, replicas, parts), whole)


def _loss(seed, step, *, jit_compile=False):
    """The loss of a step on a batch that is always the same."""
    keras.utils.set_random_seed(0)
    config = _Dropping()
    strategy = make_strategy("mirrored", _DEVICES[:1])
    with strategy.scope():
        model = config.build(3, auxiliary=True)
        optimizer, state = SGD().build(model), RunState()
    losses = config.losses(functools.partial(CrossEntropy(), ignore_label=255))
    make_step = compiled_step(
        strategy,
        model,
        optimizer,
        state,
        lambda step: losses,
        seed=seed,
        jit_compile=jit_compile,
    )
    image = np.random.default_rng(0).uniform(0, 255, (2, 17, 17, 3)).astype(np.float32)
    batch = {"image": tf.constant(image), "label": tf.ones([2, 17, 17], tf.int32)}
    return float(make_step([batch], tf.constant(step), tf.constant(0.1))["loss"])


def test_another_step_or_seed_drops_other_values():
    loss = _loss(seed=0, step=0)
    assert _loss(seed=0, step=0) == loss
    for seed, step in ((0, 1), (1, 0)):
        assert abs(_loss(seed, step) / loss - 1) > 1e-3


def test_xla_drops_the_same_values():
    loss = _loss(seed=1, step=1)
    assert _loss(seed=1, step=1, jit_compile=True) == pytest.approx(loss, rel=1e-6)


@pytest.mark.slow  # five trainings of a network, up to two replicas
@pytest.mark.parametrize("network", _NETWORKS)
def test_networks_of_both_papers_train_alike(float64, photos, recipe_of, network):
    recipe = recipe_of(photos, model=_NETWORKS[network])
    whole = _train(recipe, 1)
    for replicas, parts in ((2, 1), (1, 2), (1, 4), (2, 2)):
        _check_equal(_train(recipe, replicas, parts), whole)


# In one process, TensorFlow cannot have a strategy of two devices and then one of four.
_ON_FOUR = """
import pickle
import sys
import keras
import tensorflow as tf
from deeplab_tf import zoo
from deeplab_tf.recipe import as_json
from deeplab_tf.training.devices.selfcheck import train_steps
from deeplab_tf.training.devices.strategy import make_strategy
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)
keras.config.set_dtype_policy("float64")
recipe = as_json.from_json(open(sys.argv[1], encoding="utf-8").read(), zoo.PARTS)
strategy = make_strategy("mirrored", ("CPU:0", "CPU:1", "CPU:2", "CPU:3"))
with open(sys.argv[2], "wb") as file:
    pickle.dump(train_steps(recipe, recipe.dataset.open(None), strategy, int(sys.argv[3])), file)
"""


@pytest.mark.slow  # a process with TensorFlow and a network on four replicas
@pytest.mark.parametrize("network", _NETWORKS)
def test_four_replicas_train_as_one_does(float64, photos, recipe_of, network, root, tmp_path):
    # One that is normalized by the statistics of the global batch.
    recipe = recipe_of(photos, model=_NETWORKS[network].replace(batch_norm="synchronized"))
    recipe_file, result = tmp_path / "recipe.json", tmp_path / "four.pickle"
    recipe_file.write_text(as_json.to_json(recipe), encoding="utf-8")
    command = [sys.executable, "-c", _ON_FOUR, str(recipe_file), str(result), str(_STEPS)]
    subprocess.run(command, cwd=root, check=True, timeout=1200)
    _check_equal(pickle.loads(result.read_bytes()), _train(recipe, 1))

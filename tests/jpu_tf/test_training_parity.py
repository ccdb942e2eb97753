"""Metrics, losses, rates and three steps of the released training code, and ours."""

import functools
import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.metrics import ConfusionMatrix, Counts, mean_iou, pixel_accuracy
from deeplab_tf.recipe.parts import Eval
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import train_step
from deeplab_tf.weights import weights_by_name
from jpu_tf import weights
from jpu_tf.heads import PSP, Encoding
from jpu_tf.losses import class_presence_loss
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU, NoUpsampling

_IGNORE = -1
_WEIGHT_DECAY = 1e-4
_SCORING = Eval(absent_classes="zero")
_MEAN, _STDDEV = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def small(shared_dir):
    directory = shared_dir / "reference" / "fastfcn"
    description = json.loads((directory / "extras_small.json").read_text())
    return description, np.load(directory / "extras_small.npz")


def test_metrics_equal_the_released_codes(small):
    description, arrays = small
    expected = description["metrics"]
    confusion = ConfusionMatrix(expected["nclass"], expected["ignore"])
    for i in range(len(expected["batches"])):
        label_map = arrays[f"metrics/logits{i}"].argmax(-1)
        confusion.update(arrays[f"metrics/target{i}"], label_map)
    counts = Counts.of(confusion.matrix)
    accuracy, iou = (score(counts, _SCORING) for score in (pixel_accuracy, mean_iou))
    assert accuracy == pytest.approx(expected["accumulated_pixAcc"])
    assert iou == pytest.approx(expected["accumulated_mIoU"])


def test_the_papers_60_classes_are_59_and_a_background_that_counts_0():
    """Tab. 3 against Sec. 4.3: nobody labels or predicts the background."""
    label, label_map = np.divmod(np.arange(59 * 59) * 7 % (59 * 59), 59)
    scores = {}
    for classes in (59, 60):
        confusion = ConfusionMatrix(classes, 255)
        confusion.update(label + classes - 59, np.maximum(label, label_map) + classes - 59)
        scores[classes] = mean_iou(Counts.of(confusion.matrix), _SCORING)
    assert scores[60] == pytest.approx(scores[59] * 59 / 60)
    assert round(54.03 * 59 / 60, 2) == 53.13


def test_losses_equal_the_released_codes(small):
    description, arrays = small
    expected = description["losses"]
    label = tf.constant(arrays["losses/target"], tf.int32)

    def mean(loss, name, **options):
        total, count = loss(label, tf.constant(arrays[f"losses/{name}"]), **options)
        return float(total / count)

    main = mean(CrossEntropy(), "logits", ignore_label=_IGNORE)
    aux = mean(CrossEntropy(), "aux_logits", ignore_label=_IGNORE)
    presence = mean(class_presence_loss, "se_pred")
    assert main == pytest.approx(expected["ce_main"], rel=1e-6)
    assert aux == pytest.approx(expected["ce_aux"], rel=1e-6)
    assert main + 0.4 * aux == pytest.approx(expected["aux_only_w0.4"], rel=1e-6)
    assert main + 0.2 * presence == pytest.approx(expected["se_only_w0.2"], rel=1e-6)
    both = main + 0.2 * presence + 0.2 * aux
    assert both == pytest.approx(expected["se0.2_aux0.2"], rel=1e-6)


@pytest.mark.parametrize(
    ("run", "base_lr", "epochs", "iterations"),
    [
        ("pcontext_bs16 base 0.001, 80 epochs, 312 iters", 0.001, 80, 312),
        ("ade20k_bs16 base 0.01, 120 epochs, 1263 iters", 0.01, 120, 1263),
    ],
)
def test_rates_equal_the_released_codes(small, run, base_lr, epochs, iterations):
    rows = small[0]["lr"][run]
    assert len(rows) >= 4
    for epoch, iteration, backbone, *others in rows:
        rate = Poly(base_lr=base_lr, power=0.9)(
            epoch * iterations + iteration,
            total_steps=epochs * iterations,
            steps_per_epoch=iterations,
        )
        assert rate == pytest.approx(backbone, rel=1e-12)
        assert others == pytest.approx([10 * rate] * 3, rel=1e-12)


@pytest.fixture
def float64():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def _released_layout(array, name):
    """The inverse of weights.to_our_layout."""
    if not name.endswith("/kernel"):
        return array
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if "_depthwise/" in name else (3, 2, 0, 1))
    return array.T


def _sampled(array):
    """The values that the fixtures hold of an array."""
    return array.ravel()[np.linspace(0, array.size - 1, min(64, array.size)).astype(int)]


def _image(model, pixels):
    """What the model normalizes to float32's result: the released run normalized in float32."""
    normalized = (pixels.astype(np.float32) / np.float32(255) - _MEAN) / _STDDEV
    rescale = model.get_layer("backbone_rescale")
    offset, scale = np.float32(rescale.offset), np.float32(rescale.scale)
    return (normalized.astype(np.float64) - offset) / scale


@pytest.mark.slow  # three steps of a ResNet-50 in float64
@pytest.mark.parametrize(
    ("run", "parts"),
    [
        (
            "train_encnet_resnet50_jpu",
            {"upsampler": JPU(), "head": Encoding(dropout=0.0)},
        ),
        (
            "train_psp_resnet50_dilated",
            {"upsampler": NoUpsampling(), "head": PSP(dropout=0.0), "aux_weight": 0.4},
        ),
    ],
)
def test_three_steps_equal_the_released_codes(shared_dir, float64, run, parts):
    directory = shared_dir / "reference" / "fastfcn"
    expected = json.loads((directory / "extras_train.json").read_text())[run]
    arrays = np.load(directory / "extras_train.npz")
    stored = {name: arrays[name] for name in arrays if name.startswith(f"{run}/")}
    rule_file = importlib.util.spec_from_file_location("weight_rule", directory / "weight_rule.py")
    rule = importlib.util.module_from_spec(rule_file)
    rule_file.loader.exec_module(rule)

    config = FastFCNConfig(backbone="resnet50_deep_stem", **parts)
    model = config.build(59, (*stored[f"{run}/image"].shape[1:3], 3), auxiliary=True)
    by_name = weights_by_name(model)
    released = {name: weights.released_name(name, config.head.kind) for name in by_name}
    start = {}
    for name, weight in by_name.items():
        shape = _released_layout(weight.numpy(), name).shape
        start[name] = rule.weight(released[name], shape).astype(np.float64)
        weight.assign(weights.to_our_layout(start[name], name))
    found = {theirs: name for name, theirs in released.items()}
    compared = set()

    def stored_of(what):
        for key, value in stored.items():
            if key.startswith(f"{run}/{what}/"):
                compared.add(key)
                yield found[key.removeprefix(f"{run}/{what}/")], value

    optimizer = SGD(
        momentum=0.9,
        weight_decay=_WEIGHT_DECAY,
        decay_on="all",
        lr_multipliers=[(p, 10.0) for p in ("head_", "aux_", *config.upsampler.prefixes)],
    ).build(model)
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=_IGNORE)
    batch = {
        "image": tf.constant(_image(model, stored[f"{run}/image"])),
        "label": tf.constant(stored[f"{run}/target"], tf.int32),
    }
    for i, step in enumerate(expected["steps"]):
        rate = Poly(base_lr=0.001, power=0.9)(i, total_steps=10, steps_per_epoch=10)
        assert rate == pytest.approx(step["lr_backbone"], rel=1e-12)
        result = train_step(
            model,
            optimizer,
            RunState(),
            config.losses(pixel_loss),
            batch,
            learning_rate=tf.constant(rate, tf.float64),
        )
        assert float(result["loss"]) == pytest.approx(step["loss"], rel=1e-12)
        if i > 0:
            continue
        # The first velocity is the gradient, with that of the L2 term.
        names = {id(weight): name for name, weight in by_name.items()}
        gradients = {}
        for variable, slot in zip(model.trainable_variables, optimizer.slots, strict=True):
            name = names[id(variable)]
            gradient = _released_layout(slot.numpy(), name) - _WEIGHT_DECAY * start[name]
            gradients[released[name]] = gradient
        norms = {name: norm for name, norm in expected["grad_l2"].items() if norm is not None}
        assert set(gradients) == set(norms)
        for name, norm in norms.items():
            # A bias that the next normalization takes away has no gradient but rounding.
            assert np.linalg.norm(gradients[name]) == pytest.approx(norm, rel=1e-9, abs=1e-14), name
        for name, theirs in stored_of("grad64"):
            ours = _sampled(gradients[released[name]])
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())
        for name, theirs in stored_of("after_step1"):
            np.testing.assert_allclose(by_name[name].numpy(), theirs, rtol=1e-10, err_msg=name)
    for name, theirs in stored_of("after3"):
        ours = _sampled(_released_layout(by_name[name].numpy(), name))
        change = np.abs(_sampled(start[name]) - theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * change, err_msg=name)
    left = {key.removeprefix(f"{run}/") for key in stored if key not in compared}
    assert left == {"image", "target", "logits_low_stats"}

"""The loss and the metric for model.compile, against float64 and our own counting."""

import keras
import numpy as np
import pytest

from deeplab_tf.data.datasets.shapes import CLASS_NAMES, draw
from deeplab_tf.evaluation.keras_api import CrossEntropyLoss, MeanIoU
from deeplab_tf.evaluation.metrics import ConfusionMatrix, Counts, mean_iou
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.recipe.parts import Eval


def labels_and_logits(num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A third of the labels is void, and the last class is in neither labels nor predictions."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, num_classes - 1, (2, 9, 11))
    label[rng.random(label.shape) < 0.3] = 255
    logits = rng.normal(0, 3, (*label.shape, num_classes)).astype(np.float32)
    logits[..., -1] = -100
    return label, logits


def cross_entropy_in_float64(label: np.ndarray, logits: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    valid = label != 255
    return -np.take_along_axis(logs[valid], label[valid][:, None], axis=-1).mean()


def mean_iou_of(pairs, num_classes: int) -> float:
    confusion = ConfusionMatrix(num_classes, 255)
    for label, logits in pairs:
        confusion.update(label, logits.argmax(-1))
    return mean_iou(Counts.of(confusion.matrix), Eval())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_the_loss_is_the_mean_over_pixels_with_a_class(dtype):
    label, logits = labels_and_logits()
    expected = cross_entropy_in_float64(label, logits)
    for shown in (label.astype(dtype), label.astype(dtype)[..., None]):
        assert float(CrossEntropyLoss()(shown, logits)) == pytest.approx(expected, rel=1e-6)
    moved = np.where(label == 255, 200, label).astype(dtype)
    found = float(CrossEntropyLoss(ignore_label=200)(moved, logits))
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_is_predicted_at_void_does_not_matter_to_the_loss():
    label, logits = labels_and_logits()
    expected = float(CrossEntropyLoss()(label, logits))
    logits[label == 255] = np.nan
    assert float(CrossEntropyLoss()(label, logits)) == expected
    assert float(CrossEntropyLoss()(np.full_like(label, 255), logits)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_the_metric_equals_the_confusion_matrix_over_batches(dtype):
    label, logits = labels_and_logits()
    metric, batches = MeanIoU(5), [(label, logits), (label[:1], -logits[:1])]
    for shown, predicted in batches:
        metric.update_state(shown.astype(dtype), predicted)
    assert float(metric.result()) == pytest.approx(mean_iou_of(batches, 5), rel=1e-6)
    metric.reset_state()
    metric.update_state(label.astype(dtype), logits)
    assert float(metric.result()) == pytest.approx(mean_iou_of(batches[:1], 5), rel=1e-6)


def test_the_metric_counts_more_pixels_than_32_bits_hold():
    label, logits = labels_and_logits()
    metric = MeanIoU(5)
    metric.total_cm.assign(np.eye(5, dtype=np.int64) * 3 * 10**9)
    metric.update_state(label, logits)
    assert metric.total_cm.numpy()[4, 4] == 3 * 10**9
    assert float(metric.result()) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow  # compiles a training step of a network
def test_a_network_of_ours_learns_shapes_by_compile_and_fit(tmp_path):
    keras.utils.set_random_seed(1)
    drawn = [draw("train", i) for i in range(4)]
    images, labels = (
        np.stack([a[:65, :65] for a in arrays]) for arrays in zip(*drawn, strict=True)
    )
    assert 0 < (labels == 255).mean() < 0.5
    model = DeepLabV3Plus(
        len(CLASS_NAMES),
        backbone="mobilenet_v2_tiny",
        atrous_rates=(),
        aspp_channels=16,
        decoder=False,
        batch_norm_momentum=0.5,
    )
    metric = MeanIoU(len(CLASS_NAMES))
    model.compile(keras.optimizers.Adam(1e-2), loss=CrossEntropyLoss(), metrics=[metric])
    history = model.fit(images, labels, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]

    scores = model.evaluate(images, labels, verbose=0, return_dict=True)
    logits = model.predict(images, verbose=0)
    assert scores["loss"] == pytest.approx(cross_entropy_in_float64(labels, logits), rel=1e-5)
    expected = mean_iou_of([(labels, logits)], len(CLASS_NAMES))
    assert scores["mean_iou"] == pytest.approx(expected, rel=1e-6)

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    again = loaded.evaluate(images, labels, verbose=0, return_dict=True)
    assert again == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize(
    "made", [CrossEntropyLoss(ignore_label=7), MeanIoU(4, ignore_label=7, name="iou")]
)
def test_they_can_be_serialized(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()
    assert again.ignore_class == 7 and again.name == made.name

"""The training loop with a moving average, accumulation, recovery and early stopping."""

import dataclasses
import json
import os
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import RandomCrop
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.options import option
from deeplab_tf.training.loop import train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.report.reports import Reports
from deeplab_tf.training.workdir.checkpoints import Checkpointer

_ALL = {
    "precision": "float16",
    "ema_decay": 0.9,
    "accumulation_steps": 2,
    "devices": ("CPU:0", "CPU:1"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fragile(CrossEntropy):
    """A loss that is not a number when it is computed for steps after the fourth, at first."""

    kind: ClassVar[str] = "fragile"

    bad_calls: int = option(0, "number of these calls")

    def __call__(self, label, logits, *, ignore_label, step=0):
        total, count = super().__call__(label, logits, ignore_label=ignore_label)
        return total + tf.numpy_function(self._nan_or_0, [step], tf.float32), count

    def _nan_or_0(self, step):
        if step < 4:
            return np.float32(0)
        calls = _CALLS[id(self)] = _CALLS.get(id(self), 0) + 1
        return np.float32(np.nan if calls <= self.bad_calls else 0)


_CALLS = {}  # of fragile losses


def _train(recipe, workdir):
    """What was printed."""
    printed = []
    train(recipe, workdir=str(workdir), check_data=False, print_fn=printed.append)
    return printed


def _kernel(workdir, recipe, average):
    """The classifier of the last weights, of their average, or of the best weights (None)."""
    model = recipe.model.build(recipe.dataset.open(None).spec.num_classes)
    checkpointer = Checkpointer(str(workdir), model)
    if average is None:
        assert checkpointer.restore_best() == 4
    else:
        assert checkpointer.restore(average=average) == 4
    return model.get_layer("logits").kernel.numpy()


def _forget_last(workdir, step):
    for ending in (".index", ".data-00000-of-00001"):
        (workdir / "checkpoints" / f"ckpt-{step}{ending}").unlink()


@pytest.mark.parametrize(
    "network", ["pointwise", pytest.param("model_config", marks=pytest.mark.slow)]
)
def test_a_run_with_everything_on_resumes_to_equal_bits(
    photos, recipe_of, network, request, tmp_path
):
    recipe = recipe_of(
        photos,
        steps=4,
        model=request.getfixturevalue(network),
        optimizer=SGD(clip_norm=1.0, nesterov=True),
        train={**_ALL, "remat": network == "model_config"},
    )
    _train(recipe, tmp_path)
    whole = (tmp_path / "metrics.csv").read_text()
    kernels = {average: _kernel(tmp_path, recipe, average) for average in (False, True)}
    assert not np.array_equal(*kernels.values())
    _forget_last(tmp_path, 4)
    assert "resuming at step 2 of 4" in _train(recipe, tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == whole
    for average, kernel in kernels.items():
        np.testing.assert_array_equal(_kernel(tmp_path, recipe, average), kernel)


def test_the_moving_average_is_what_is_scored_and_kept_as_the_best(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(photos, steps=4, model=pointwise, train={"ema_decay": 0.9, "eval_every": 4})
    _train(recipe, tmp_path)
    last, ema, best = (_kernel(tmp_path, recipe, average) for average in (False, True, None))
    np.testing.assert_array_equal(best, ema)
    assert np.abs(last - ema).max() > 1e-4


def test_weights_without_an_average_say_so(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(photos, steps=1, model=pointwise)
    _train(recipe, tmp_path)
    with pytest.raises(
        ValueError, match="ckpt-1 has no moving average of the weights; .*ema_decay"
    ):
        _kernel(tmp_path, recipe, True)


def test_ten_steps_without_a_finite_gradient_stop_the_run(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=40, model=pointwise, loss=_Fragile(bad_calls=40), train={"eval_every": 100}
    )
    with pytest.raises(FloatingPointError) as raised:
        _train(recipe, tmp_path)
    # Steps 1 to 4 are good, 5 to 14 are not. At 14 a checkpoint is due, so it is seen at once.
    message = str(raised.value)
    assert "the gradients of 10 steps in a row, the last of them 14, were not finite" in message
    source = recipe.dataset.open(None).source("train")
    names = [source.name(int(i)) for i in pipeline.batch_indices(6, 4, seed=1, step=13)]
    assert f"The examples of step 14: {', '.join(names)}." in message
    # No step from the state of step 4 had a finite loss, so it is not proven to be good.
    assert (
        "--resume_from=2 --schedule.base_lr=0.005 continues from step 2, the last good" in message
    )
    assert "--train.recover=true" in message
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0].split(",")[-1] == "skipped_steps"
    assert [row.split(",")[-1] for row in rows[4:7]] == ["", "1", "2"]


def test_recovery_returns_to_the_last_checkpoint_and_takes_another_order(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(
        photos, steps=16, model=pointwise, loss=_Fragile(bad_calls=10),
        train={"eval_every": 100, "recover": True},
    )  # fmt: skip
    printed = _train(recipe, tmp_path)
    assert any("returning to step 2, with the examples in another order" in p for p in printed)
    assert "step 16: val mean IoU" in printed[-1]
    whole = (tmp_path / "metrics.csv").read_text()
    rows = [row.split(",") for row in whole.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == [*range(1, 17), 16]
    _train(dataclasses.replace(recipe, loss=_Fragile()), tmp_path / "smooth")
    smooth = (tmp_path / "smooth" / "metrics.csv").read_text().splitlines()[1:]
    losses = [[row[1] for row in rows], [row.split(",")[1] for row in smooth]]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0][2] != losses[1][2]  # of other examples
    _forget_last(tmp_path, 16)
    # The order of the recovery is part of the checkpoint.
    assert "resuming at step 14 of 16" in _train(recipe, tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == whole


def test_recovery_gives_up_after_three_times(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=90, model=pointwise, loss=_Fragile(bad_calls=1000),
        train={"eval_every": 100, "recover": True},
    )  # fmt: skip
    printed = []
    with pytest.raises(FloatingPointError, match="returned to a checkpoint 3 times"):
        train(recipe, workdir=str(tmp_path), check_data=False, print_fn=printed.append)
    assert sum("returning to step" in line for line in printed) == 3


def test_a_run_stops_when_its_score_no_longer_rises(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=20, base_lr=0.0, model=pointwise, train={"patience": 2, "eval_every": 1}
    )
    printed = _train(recipe, tmp_path)
    assert printed[-1] == "stopping: no better score in 2 evaluations"
    assert json.loads((tmp_path / "best" / "best.json").read_text())["step"] == 1
    assert "ckpt-3.index" in os.listdir(tmp_path / "checkpoints")
    assert _train(recipe, tmp_path)[-1] == f"{tmp_path} is complete: it is trained to step 3"


def test_best_weights_follow_the_chosen_metric(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(photos, steps=2, model=pointwise)
    options = recipe.eval.replace(best_metric="pixel_accuracy")
    _train(dataclasses.replace(recipe, eval=options), tmp_path)
    best = json.loads((tmp_path / "best" / "best.json").read_text())
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_pixel_accuracy")
    scores = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert best["pixel_accuracy"] == pytest.approx(max(scores), rel=1e-8)
    # The weights open without the name of the metric.
    network = pointwise.build(recipe.dataset.open(None).spec.num_classes)
    assert Checkpointer(str(tmp_path), network).restore_best() == best["step"]


def test_learning_rate_grows_with_the_batch_on_request(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=1, base_lr=0.08, model=pointwise, train={"scale_lr": True, "batch_size": 4}
    )
    _train(recipe, tmp_path)
    header, row = (
        line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()[:2]
    )
    assert float(row[header.index("learning_rate")]) == pytest.approx(0.08 * 4 / 16)


@pytest.mark.parametrize(
    ("train_options", "batch_norm", "images"),
    [({}, "synchronized", 4), ({"accumulation_steps": 2}, "synchronized", 2), ({}, "frozen", None)],
)
def test_small_batches_are_named_where_batch_norm_needs_large_ones(
    photos, recipe_of, model_config, tmp_path, train_options, batch_norm, images
):
    recipe = recipe_of(
        photos, steps=1, train=train_options, model=model_config.replace(batch_norm=batch_norm)
    )
    printed = []
    dataset = recipe.dataset.open(None)
    reports = Reports(recipe, dataset, str(tmp_path), 1, printed.append, lambda: None)
    reports.announce(recipe.model.build(2), replicas=1)
    assert (f"statistics from {images} images" in "".join(printed)) == (images is not None)
    assert ("warning" in "".join(printed)) == (images is not None)


@pytest.mark.parametrize(
    ("rates", "size", "warned"),
    [
        ((6, 12, 18), 257, "rate 18 on feature maps of 17x17 pixels, from crops of 257x257"),
        ((6, 12, 18), 321, "outer weights meet the image at 14% of the positions"),
        ((6, 12, 18), 513, None),
        ((4, 8, 12), 321, None),
        ((), 65, None),
    ],
)
def test_rates_that_reach_beyond_the_crop_are_named(
    photos, recipe_of, tmp_path, rates, size, warned
):
    model = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", atrous_rates=rates, batch_norm="frozen"
    )
    recipe = recipe_of(photos, steps=1, model=model, augment=(RandomCrop(size=size),))
    printed = []
    dataset = recipe.dataset.open(None)
    reports = Reports(recipe, dataset, str(tmp_path), 1, printed.append, lambda: None)
    reports.announce(model.build(2), replicas=1)
    warnings = [line for line in printed if line.startswith("warning: ")]
    assert len(warnings) == (warned is not None)
    assert all(warned in line for line in warnings)

"""What ends a run, or does not let it begin."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from deeplab_tf import zoo
from deeplab_tf.recipe.parts import Eval
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.loop import train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.schedules import Poly


def silent(line: str) -> None:
    """Prints nothing."""


@pytest.fixture
def broken(photos, tmp_path):
    """A copy of the photos, to be damaged."""
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def skipping(recipe_of):
    """`recipe_of` with train.on_bad_example=skip."""
    return lambda photos, train=None, **options: recipe_of(
        photos, train={"on_bad_example": "skip", **(train or {})}, **options
    )


def test_non_finite_loss_stops_the_run_and_keeps_the_checkpoint(photos, recipe_of, tmp_path):
    recipe = recipe_of(photos, steps=20, base_lr=1e30, train={"eval_every": 100, "save_every": 1})
    message = "10 steps in a row, the last of them 1[1-4], were not finite"
    with pytest.raises(FloatingPointError, match=message) as caught:
        train(recipe, workdir=str(tmp_path), check_data=False, print_fn=silent)
    # The update of step 1 has made the weights useless, so there is no state to return to.
    assert "--resume_from=0 --schedule.base_lr=1e+29 starts again at a lower" in str(caught.value)
    model = zoo.load_model(str(tmp_path), checkpoint=1)
    assert all(np.all(np.isfinite(w.numpy())) for w in model.weights)


def test_file_that_breaks_while_training_is_named(broken, recipe_of, tmp_path):
    path = broken / "train" / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:500])
    recipe = recipe_of(broken, steps=8, train={"eval_every": 100, "save_every": 100})
    with pytest.raises(ValueError, match=r"cannot be read \(step \d\):\n  .*images/3\.png with"):
        train(recipe, workdir=str(tmp_path / "run"), check_data=False, print_fn=silent)


@pytest.mark.slow  # three runs
def test_run_that_skips_bad_examples_names_them_and_resumes(broken, recipe_of, skipping, tmp_path):
    images = broken / "train" / "images"
    photo = Image.open(images / "3.png").convert("RGB")
    (images / "3.png").unlink()
    photo.save(images / "3.jpg")
    (images / "3.jpg").write_bytes((images / "3.jpg").read_bytes()[:700])
    options = {"steps": 6, "train": {"eval_every": 100, "save_every": 3}}
    printed = []
    train(skipping(broken, **options), workdir=str(tmp_path / "whole"), print_fn=printed.append)
    # Once by the check before the first step, once at the end.
    assert sum("fault: train: " in line and "images/3.jpg" in line for line in printed) == 1
    report = printed[-1].splitlines()
    assert report[0].startswith("skipped 1 of 6 training examples, which cannot be read")
    assert len(report) == 2 and "images/3.jpg" in report[1]
    # 'fail' ends it at the example; the same command with 'skip' continues to the same numbers.
    stopped = {"workdir": str(tmp_path / "stopped"), "check_data": False}
    with pytest.raises(ValueError, match=r"images/3\.jpg"):
        train(recipe_of(broken, **options), **stopped, print_fn=printed.append)
    train(skipping(broken, **options), **stopped, print_fn=printed.append)
    stopped, whole = ((tmp_path / n / "metrics.csv").read_text() for n in ("stopped", "whole"))
    assert stopped == whole


def test_faults_of_validation_are_never_skipped(broken, skipping, tmp_path):
    (broken / "val" / "images" / "1.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1 faulty examples:\n  val: .*val/images/1\.png"):
        train(skipping(broken), workdir=str(tmp_path / "run"), print_fn=silent)


def test_run_that_can_read_nothing_ends_with_names(broken, skipping, tmp_path):
    for image in (broken / "train" / "images").iterdir():
        image.write_bytes(b"text")
    with pytest.raises(ValueError, match=r"(?s)has 6 faulty examples.*images/0\.png"):
        train(skipping(broken), workdir=str(tmp_path / "run"), print_fn=silent)


def test_faulty_dataset_is_refused_before_step_0(broken, recipe_of, tmp_path):
    Image.fromarray(np.full((64, 80), 77, np.uint8)).save(broken / "val" / "labels" / "1.png")
    with pytest.raises(ValueError, match=r"val/labels/1\.png: label values must be 0\.\.4"):
        train(recipe_of(broken), workdir=str(tmp_path / "run"), print_fn=silent)
    assert not (tmp_path / "run").exists()


def test_batch_that_does_not_divide_over_the_replicas_is_refused(photos, recipe_of, tmp_path):
    recipe = recipe_of(photos, train={"batch_size": 5})
    strategy = make_strategy("mirrored", ("CPU:0", "CPU:1"))
    with pytest.raises(ValueError, match="^train.batch_size must be a multiple of 2.* Use 4 or 6"):
        train(recipe, workdir=str(tmp_path / "run"), strategy=strategy)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"loss": CrossEntropy(class_weights=(1.0, 2.0))},
            "loss.class_weights must be a number for each of 5 classes; got 2.",
        ),
        (
            {"schedule": Poly(warmup_steps=4)},
            "schedule.warmup_steps must be below the length of training, 4 steps; got 4.",
        ),
        ({"train": {"split": "test"}}, "no 'test' split of "),
        (
            {"eval": Eval(excluded_classes=(99,))},
            "eval.excluded_classes must be among the classes 0..4",
        ),
    ],
)
def test_options_that_do_not_fit_the_dataset_are_refused_before_anything_is_written(
    photos, recipe_of, tmp_path, parts, message
):
    with pytest.raises(ValueError) as caught:
        train(recipe_of(photos, **parts), workdir=str(tmp_path / "run"))
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_prefix_of_no_weight_is_refused_before_anything_is_written(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(photos, model=pointwise)
    optimizer = recipe.optimizer.replace(lr_multipliers=(("decoder_", 10.0),))
    with pytest.raises(ValueError, match="^optimizer.lr_multipliers: no trainable weight begins"):
        train(
            dataclasses.replace(recipe, optimizer=optimizer),
            workdir=str(tmp_path / "run"),
            check_data=False,
        )
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_recipe_is_refused(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(photos, steps=1, model=pointwise)
    train(recipe, workdir=str(tmp_path), check_data=False, print_fn=silent)
    with pytest.raises(ValueError, match=r"schedule.base_lr: 0\.05 -> 0\.5"):
        train(recipe_of(photos, steps=1, model=pointwise, base_lr=0.5), workdir=str(tmp_path))


def test_best_weights_of_another_recipe_are_not_this_runs(photos, recipe_of, tmp_path):
    recipe = recipe_of(photos, steps=2)
    train(recipe, workdir=str(tmp_path), print_fn=silent)
    shutil.rmtree(tmp_path / "checkpoints")  # as a run leaves it that stops after an evaluation
    other = dataclasses.replace(recipe, model=recipe.model.replace(decoder=False))
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train(other, workdir=str(tmp_path), print_fn=silent)


def test_augmentations_without_one_size_and_unknown_splits_leave_nothing_behind(
    photos, recipe_of, tmp_path
):
    recipe = recipe_of(photos, steps=2)
    for wrong, message in (
        ({"augment": ()}, "--augment must bring all images to one size"),
        ({"eval": Eval(split="foo")}, "no 'foo' split"),
    ):
        with pytest.raises(ValueError, match=message):
            train(
                dataclasses.replace(recipe, **wrong), workdir=str(tmp_path / "run"), print_fn=silent
            )
    assert not (tmp_path / "run").exists()

"""Which states are worth returning to, and how a run returns to one."""

import dataclasses
import os

import numpy as np
import pytest

from deeplab_tf.recipe.as_json import to_json
from deeplab_tf.training.loop import train
from deeplab_tf.training.recovery import is_diverging
from deeplab_tf.training.schedules import Poly
from deeplab_tf.training.workdir.checkpoints import Checkpointer


def _train(recipe, workdir, **options):
    printed = []
    train(recipe, workdir=str(workdir), check_data=False, print_fn=printed.append, **options)
    return printed


def _kept(workdir):
    """Steps of the checkpoints, and of those that are not proven."""
    names = os.listdir(workdir / "checkpoints")
    return tuple(
        sorted(int(n.split(".")[0].removeprefix("ckpt-")) for n in names if n.endswith(ending))
        for ending in (".index", ".unproven")
    )


def _rows(workdir):
    return [row.split(",") for row in (workdir / "metrics.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("loss", "first_loss", "diverging"),
    [
        (float("nan"), 1.0, True),
        (float("inf"), None, True),
        (3.0, 0.1, False),  # ten times the first loss, but no more than a network that guesses
        (10.1, 0.1, True),
        (29.0, 3.0, False),
        (31.0, 3.0, True),
        (1e9, None, False),
        (1.0, float("nan"), False),
    ],
)
def test_a_state_diverges_far_above_the_first_loss(loss, first_loss, diverging):
    assert is_diverging(loss, first_loss) == diverging


def test_diverging_states_do_not_push_out_good_ones(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=6, model=pointwise,
        train={"save_every": 1, "eval_every": 100, "max_to_keep": 2},
    )  # fmt: skip
    assert not [line for line in _train(recipe, tmp_path) if "diverges" in line]
    assert _kept(tmp_path) == ([5, 6], [])
    wild = dataclasses.replace(
        recipe, schedule=Poly(base_lr=1e8), train=recipe.train.replace(steps=14)
    )
    printed = _train(wild, tmp_path, resume_from=5)
    # The weights of step 5 were still good, those of later steps are not.
    assert _kept(tmp_path) == ([5, 14], [14])
    warnings = [line for line in printed if line.startswith("warning: the run diverges: the loss")]
    assert len(warnings) > 3
    assert "--resume_from=5 --schedule.base_lr=1e+07 continues from step 5" in warnings[0]


def test_a_run_goes_back_with_another_rate_and_resumes_from_there(
    photos, recipe_of, pointwise, tmp_path
):
    recipe = recipe_of(photos, steps=8, model=pointwise, train={"max_to_keep": 10})
    _train(recipe, tmp_path)
    before = _rows(tmp_path)
    slower = dataclasses.replace(recipe, schedule=Poly(base_lr=0.001))
    with pytest.raises(
        ValueError, match=r"(?s)schedule.base_lr: 0.05 -> 0.001.*--resume_from=STEP"
    ):
        _train(slower, tmp_path)
    printed = _train(slower, tmp_path, resume_from=4)
    assert "resuming at step 4 of 8" in printed
    after = _rows(tmp_path)
    assert after[:6] == before[:6]  # four steps and two evaluations
    assert [row[0] for row in after] == [row[0] for row in before]
    assert after[6] != before[6]
    assert (tmp_path / "recipe-until-4.json").read_text() == to_json(recipe)
    assert (tmp_path / "recipe.json").read_text() == to_json(slower)
    # Both the same command and the plain one continue what was begun.
    for options in ({"resume_from": 4}, {}):
        assert _train(slower, tmp_path, **options)[-1].endswith("is trained to step 8")
    assert _rows(tmp_path) == after
    # A third rate: the recipe of the first four steps is still the first one.
    _train(dataclasses.replace(recipe, schedule=Poly(base_lr=0.002)), tmp_path, resume_from=4)
    assert (tmp_path / "recipe-until-4.json").read_text() == to_json(recipe)


def test_going_back_to_the_start_trains_again(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(photos, steps=4, model=pointwise)
    _train(recipe, tmp_path / "fresh")
    other = dataclasses.replace(recipe, schedule=Poly(base_lr=10.0))
    _train(other, tmp_path / "run")
    _train(recipe, tmp_path / "run", resume_from=0)
    for name in ("metrics.csv", "best/best.json", "recipe.json"):
        fresh = (tmp_path / "fresh" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == fresh


def test_going_back_to_the_start_of_nothing_trains(photos, recipe_of, pointwise, tmp_path):
    _train(recipe_of(photos, steps=2, model=pointwise), tmp_path / "run", resume_from=0)
    assert _kept(tmp_path / "run") == ([2], [])
    assert not (tmp_path / "run" / "recipe-until-0.json").exists()


def test_what_does_not_fit_the_state_cannot_change_on_the_way(
    photos, recipe_of, pointwise, model_config, tmp_path
):
    recipe = recipe_of(photos, steps=4, model=pointwise)
    _train(recipe, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 3 in .*; there: 2, 4\."):
        _train(recipe, tmp_path, resume_from=3)
    with pytest.raises(ValueError, match="holds a run of another recipe:\n  model: pointwise -> d"):
        _train(dataclasses.replace(recipe, model=model_config), tmp_path, resume_from=2)
    assert _kept(tmp_path) == ([2, 4], [])
    assert not (tmp_path / "recipe-until-3.json").exists()


def test_best_weights_of_later_steps_go_with_them(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(photos, steps=4, model=pointwise)
    _train(recipe, tmp_path)
    network = pointwise.build(recipe.dataset.open(None).spec.num_classes)
    checkpointer = Checkpointer(str(tmp_path), network)
    step = checkpointer.best()[0]
    checkpointer.forget_best_after(step)
    assert checkpointer.restore_best() == step
    checkpointer.forget_best_after(step - 1)
    assert checkpointer.restore_best() == 0
    assert np.isfinite(checkpointer.best()[1])

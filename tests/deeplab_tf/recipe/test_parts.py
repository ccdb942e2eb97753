import dataclasses

import pytest

from deeplab_tf.recipe.parts import Eval, Train
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.zoo import RECIPES


def test_epochs_become_steps():
    assert Train(epochs=3, batch_size=8).total_steps(num_examples=100) == 38  # 37.5
    assert Train(epochs=0.001, batch_size=8).total_steps(num_examples=100) == 1
    assert Train(steps=7, batch_size=8).total_steps(num_examples=100) == 7


def test_one_length_of_training_replaces_the_other():
    assert Train(steps=7, seed=3).replace(epochs=2) == Train(epochs=2, seed=3)
    assert Train(epochs=2).replace(steps=7) == Train(steps=7)
    assert Train(steps=7).replace(seed=3) == Train(steps=7, seed=3)
    assert Train(steps=7).replace(steps=None, epochs=2) == Train(epochs=2)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Train, {}, "steps or epochs must be set, and not both; got steps=None and epochs=None."),
        (
            Train,
            {"steps": 1, "epochs": 2},
            "steps or epochs must be set, and not both; got steps=1",
        ),
        (Train, {"steps": 0}, "steps must be at least 1; got 0."),
        (Train, {"epochs": -1.0}, "epochs must be above 0; got -1.0."),
        (Train, {"epochs": 0}, "epochs must be above 0; got 0."),
        (Train, {"steps": 1, "batch_size": 0}, "batch_size must be at least 1; got 0."),
        (Train, {"steps": 1, "save_every": 0}, "save_every must be at least 1; got 0."),
        (Train, {"steps": 1, "eval_every": 0}, "eval_every must be at least 1; got 0."),
        (Train, {"steps": 1, "log_every": 0}, "log_every must be at least 1; got 0."),
        (Train, {"steps": 1, "max_to_keep": 0}, "max_to_keep must be at least 1; got 0."),
        (Train, {"steps": 1, "seed": -1}, "seed must be at least 0; got -1."),
        (Train, {"steps": 1, "seed": 2**32}, "seed must be at most 4294967295; got 4294967296."),
        (Train, {"steps": 1, "devices": "CPU:0"}, "devices must be text,...; got 'CPU:0'."),
        (
            Train,
            {"steps": 1, "loss_normalization": "local"},
            "loss_normalization must be global|re",
        ),
        (Train, {"steps": 1, "on_bad_example": "stop"}, "on_bad_example must be fail|skip; got"),
        (Eval, {"excluded_classes": (-1,)}, "excluded_classes must be at least 0; got (-1,)."),
        (Eval, {"absent_classes": "one"}, "absent_classes must be exclude|zero; got 'one'."),
    ],
)
def test_a_bad_value_is_refused(cls, options, message):
    with pytest.raises(ValueError) as error:
        cls(**options)
    assert str(error.value).startswith(message)


def test_a_recipe_takes_a_list_of_augmentations_and_refuses_what_is_not_a_part():
    quickstart = RECIPES["quickstart_shapes"]
    listed = dataclasses.replace(quickstart, augment=list(quickstart.augment))
    assert listed == quickstart
    for wrong in ({"optimizer": "adamw"}, {"augment": ("random_crop",)}, {"schedule": SGD}):
        ((name, _),) = wrong.items()
        with pytest.raises(ValueError, match=f"^{name} must be made by the class of a part"):
            dataclasses.replace(quickstart, **wrong)
    with pytest.raises(ValueError, match="^augment must be a tuple"):
        dataclasses.replace(quickstart, augment=None)

"""The examples in docs/CONTRIBUTING.md do what it says."""

import dataclasses
import pathlib
import re
import sys
import types

import keras
import pytest
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.training import schedules

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "docs/CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)
SCHEDULE, SCHEDULE_ROW, BACKBONE, _ = BLOCKS


def module_of(monkeypatch, name: str, source: str, **variables) -> types.ModuleType:
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look
    vars(module).update(variables)
    exec(source, vars(module))
    return module


@pytest.fixture
def with_one_cycle(monkeypatch) -> dict:
    """The parts with the schedule of the example."""
    own = {name: value for name, value in vars(schedules).items() if not name.startswith("__")}
    # As in the file, whose annotations are not evaluated.
    source = f"from __future__ import annotations\n{SCHEDULE}\nROW = {{{SCHEDULE_ROW}}}"
    module = module_of(monkeypatch, "with_one_cycle", source, **own)
    return {**zoo.PARTS, "schedule": {**schedules.SCHEDULES, **module.ROW}}


def test_the_schedule_of_the_example_rises_and_falls(with_one_cycle):
    schedule = with_one_cycle["schedule"]["one_cycle"](base_lr=0.1, rise=0.2)
    rates = [schedule(step, total_steps=100, steps_per_epoch=10) for step in range(101)]
    assert rates[0] == 0 and rates[20] == pytest.approx(0.1) and rates[100] == 0
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)


def test_the_schedule_of_the_example_has_flags_help_and_json(with_one_cycle):
    values = flags.FlagValues()
    recipe_flags.define_recipe(values)
    recipe_flags.define(with_one_cycle, values)
    arguments = ["--recipe=quickstart_shapes", "--schedule=one_cycle", "--schedule.rise=0.2"]
    values(["train.py", *arguments])
    recipe = recipe_flags.recipe_from_flags(zoo.RECIPES, with_one_cycle, values)
    assert recipe.schedule.kind == "one_cycle" and recipe.schedule.rise == 0.2
    assert as_json.from_json(as_json.to_json(recipe), with_one_cycle) == recipe
    text = recipe_flags.help_text({"schedule": with_one_cycle["schedule"]})
    assert "one_cycle" in text and "--schedule.rise" in text


def test_the_backbone_of_the_example_is_a_backbone(monkeypatch):
    plainnet = module_of(monkeypatch, "plainnet", BACKBONE)
    assert all(map(dataclasses.is_dataclass, plainnet.SPECS.values()))
    image = keras.Input((64, 96, 3))
    features = plainnet.build(
        plainnet.SPECS["plainnet_tiny"], image, output_stride=16, norm=plainnet.NORM
    )
    assert features.conv2.shape == (None, 16, 24, 8)
    assert features.conv3.shape == (None, 8, 12, 16)
    assert features.conv4.shape == (None, 4, 6, 16)
    assert features.conv5.shape == (None, 4, 6, 32)
    layers = keras.Model(image, features.conv5).layers[1:]
    assert all(layer.name.startswith("backbone_") for layer in layers)


def test_the_table_of_new_things_names_folders_and_tables_that_exist():
    section = TEXT.split("## Where a new thing goes")[1].split("## Layers")[0]
    for path in re.findall(r"`((?:deeplab_tf|jpu_tf|tests)/[^`<]*)", section):
        assert (ROOT / path).exists(), path
    files = [*ROOT.glob("*_tf/**/*.py"), *ROOT.glob("scripts/*.py")]
    sources = [path.read_text(encoding="utf-8") for path in files]
    for table in set(re.findall(r"`(_?[A-Z][A-Z_]+)`", section)):
        assert any(re.search(rf"^{table}\b.* = ", text, re.MULTILINE) for text in sources), table

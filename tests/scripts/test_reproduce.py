"""reproduce.py: its rows, what they need, the commands, and the tables that it writes."""

import csv
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import pytest
import reproduce_plan
import reproduce_report as report
from absl import flags as absl_flags
from reproduce_cost import Inference, multiply_adds_of
from reproduce_plan import Places, inference_of, lacks, passes, steps
from reproduce_speed import mean_speed, speeds_of

from deeplab_tf import zoo
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.released import RELEASED
from deeplab_tf.tables import Row, Table
from jpu_tf.model import FastFCNConfig

ROOT = pathlib.Path(__file__).parent.parent.parent
# What the papers report; CamVid is ours.
PUBLISHED = {
    name
    for name, recipe in zoo.RECIPES.items()
    if recipe.dataset.kind in ("release", "tfds_classes") and recipe.dataset.name != "camvid"
}
ROWS = {(key, row.name): row for key, table in zoo.TABLES.items() for row in table.rows}


def run(*flags: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *flags]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(str(tmp_path / "runs"), str(tmp_path / "data"), str(tmp_path / "weights"))


# --- the rows ---------------------------------------------------------------------------------


def test_each_table_has_the_rows_of_the_paper():
    printed = {key: len(table.rows) for key, table in zoo.TABLES.items()}
    assert printed == {
        "deeplab1": 5,
        "deeplab2": 6,
        "deeplab3": 14,
        "deeplab4": 4,
        "deeplab5": 24,
        "deeplab6": 2,
        "deeplab7a": 4,
        "deeplab7b": 1,
        "deeplab_figure4": 4,
        "deeplab_figure6": 1,
        "shapes": 6,
        "shapes_figure4": 2,
        "fastfcn1": 8,
        "fastfcn2": 16,
        "fastfcn3": 3,
        "fastfcn4": 2,
        "fastfcn5": 1,
        "fastfcn_figures": 6,
        "camvid": 3,
        "camvid_deeplabv3plus": 4,
        "camvid_half": 8,
        "camvid_half_figure4": 2,
        "camvid_half_upsampling": 4,
        "camvid_half_speed": 8,
    }


@pytest.mark.parametrize("key", zoo.TABLES)
def test_rows_are_told_apart_and_fit_their_columns(key):
    table = zoo.TABLES[key]
    assert len({row.name for row in table.rows}) == len(table.rows)
    assert set(table.measures) <= report.MEASURES.keys()
    for row in table.rows:
        assert len(row.cells) == len(table.columns), row.name
        assert row.figures.keys() <= set(table.measures), row.name
        assert (row.recipe is None) != (row.model is None), row.name
        assert row.recipe is None or row.recipe in zoo.RECIPES, row.name
        assert row.released is None or row.released in RELEASED, row.name


@pytest.mark.parametrize(("key", "name"), ROWS)
def test_the_columns_say_how_the_network_is_built_and_run(key, name):
    row, columns = ROWS[key, name], zoo.TABLES[key].columns
    cells = dict(zip(columns, row.cells, strict=True))
    network = inference_of(row)
    if "train OS" in cells:
        assert zoo.RECIPES[row.recipe].model.output_stride == int(cells["train OS"])
    if "eval OS" in cells:
        assert network.model.output_stride == int(cells["eval OS"])
    if "MS" in cells:
        assert network.flip == bool(cells["Flip"])
        assert (len(network.scales) > 1) == bool(cells["MS"])
    if "Decoder" in cells:
        assert network.model.decoder == bool(cells["Decoder"])
    if "SC" in cells:
        assert network.model.separable == bool(cells["SC"])
        assert ("JFT-300M" in row.missing) == bool(cells["JFT"])
    if "Channels" in cells:
        assert network.model.low_level_channels == int(cells["Channels"])
    if "3x3 Conv Structure" in cells:
        assert network.model.decoder_features == ("conv3", "conv2")[not cells["Conv3"] :]
        kernel_size, filters = network.model.decoder_convs[0]
        text = f"[{kernel_size}x{kernel_size}, {filters}]"
        times = len(network.model.decoder_convs)
        assert cells["3x3 Conv Structure"] == (f"{text} x {times}" if times > 1 else text)
    if "Separable" in cells:
        assert network.model.separable == bool(cells["Separable"])
    if "Image-Level" in cells:
        assert network.model.image_pooling == bool(cells["Image-Level"])
    if "Upsampling" in cells and "Head" in cells:
        assert cells["Upsampling"].lower().startswith(network.model.upsampler.kind)
        assert cells["Head"].lower() == network.model.head.kind
    if "OS" in cells:
        assert (int(cells["OS"]) == 8) == (network.model.upsampler.kind == "none")


@pytest.mark.parametrize(("key", "name"), ROWS)
def test_a_recipe_expects_the_figure_of_its_row(key, name):
    row = ROWS[key, name]
    if row.recipe is None or zoo.TABLES[key].result != "score" or row.missing:
        return
    recipe = zoo.RECIPES[row.recipe]
    as_trained = all(
        getattr(recipe.predict, k) == v for k, v in row.predict.items() if k != "output_stride"
    )
    stride = row.predict.get("output_stride")
    if as_trained and stride in (None, recipe.predict.output_stride or recipe.model.output_stride):
        assert recipe.expected_mean_iou == row.figures.get("mean_iou")


@pytest.mark.parametrize("best", sorted(name for name in PUBLISHED if name.endswith("_best")))
def test_the_best_rows_of_the_tables_are_recipes_too(best):
    recipe = zoo.RECIPES[best]
    network = recipe.model.replace(output_stride=recipe.predict.output_stride)
    expected = Inference(network, recipe.predict.scales, recipe.predict.flip)
    figures = [
        row.figures["mean_iou"]
        for row in ROWS.values()
        if row.recipe == best.removesuffix("_best") and inference_of(row) == expected
    ]
    if "cityscapes" in best:  # a row of the model zoo alone
        assert not figures
    else:
        assert recipe.expected_mean_iou in figures


@pytest.mark.parametrize("name", [n for n, r in zoo.RECIPES.items() if r.dataset.kind == "release"])
def test_every_recipe_of_photos_knows_where_it_starts(name):
    if name in zoo.STARTS:
        start = {**RELEASED, **zoo.RECIPES}[zoo.STARTS[name]]
        assert start.model.backbone == zoo.RECIPES[name].model.backbone
    else:
        assert reproduce_plan.imagenet_weights(zoo.RECIPES[name]) is not None


def test_every_published_recipe_is_in_a_table_or_a_stage_of_one():
    listed = {row.recipe for row in ROWS.values()} | set(zoo.STARTS.values())
    assert {name.removesuffix("_best") for name in PUBLISHED - listed} <= listed
    assert {name for name in zoo.RECIPES if name.startswith("camvid_half_")} <= listed


# --- what rows need, and the commands ---------------------------------------------------------


def test_a_row_names_everything_that_it_lacks(places):
    table = zoo.TABLES["deeplab3"]
    (row,) = (row for row in table.rows if row.name == "train16_eval8_ms")
    assert lacks(table, row, places) == [
        "voc2012 is not prepared",
        f"no {places.weights_dir}/resnet_v1_101_beta_imagenet",
    ]
    jft = zoo.TABLES["deeplab5"].rows[-1]
    assert lacks(zoo.TABLES["deeplab5"], jft, places) == ["JFT-300M is not public"]


def test_a_stage_lacks_what_the_stage_before_it_lacks(places):
    (test, _) = zoo.TABLES["deeplab6"].rows
    assert lacks(zoo.TABLES["deeplab6"], test, places) == [
        "voc2012 is not prepared",
        "coco_voc is not prepared",
        f"no {places.weights_dir}/xception_65_imagenet",
        f"or {places.weights_dir}/xception65_coco_voc_trainval, the released network",
    ]
    os.makedirs(places.weights("xception65_coco_voc_trainval"))
    assert lacks(zoo.TABLES["deeplab6"], test, places) == ["voc2012 is not prepared"]


def test_a_row_that_starts_from_a_released_network_converts_it_first(places, monkeypatch):
    table = zoo.TABLES["camvid"]
    weights = places.weights("mobilenetv2_coco_voc_trainaug")
    assert lacks(table, table.rows[0], places) == ["camvid is not prepared", f"no {weights}"]
    monkeypatch.setattr(reproduce_plan, "_data_lacks", lambda *_: [])
    os.makedirs(weights)
    todo, reasons = steps("camvid", table.rows, places, [])
    assert reasons == {}
    commands = [shlex.split(str(step)) for step in todo]
    start = places.workdir("mobilenetv2_coco_voc_trainaug")
    assert commands[0][1:] == [
        "scripts/convert_weights.py",
        "--released=mobilenetv2_coco_voc_trainaug",
        f"--input={weights}",
        f"--output={start}",
    ]
    assert commands[1][1:3] == ["scripts/train.py", "--recipe=camvid_best"]
    assert f"--init_weights={start}" in commands[1]
    assert [command[1] for command in commands[2:]] == ["scripts/evaluate.py"] * len(table.rows)


def test_each_training_is_one_command_and_each_row_one_evaluation(places):
    table = zoo.TABLES["shapes"]
    todo, reasons = steps("shapes", table.rows, places, ["--train.batch_size=4"])
    assert reasons == {}
    commands = [shlex.split(str(step)) for step in todo]
    trained = [command for command in commands if command[1] == "scripts/train.py"]
    assert [command[2] for command in trained] == [
        "--recipe=quickstart_shapes_no_decoder",
        "--recipe=quickstart_shapes",
    ]
    assert all(command[-1] == "--train.batch_size=4" for command in trained)
    assert commands[-1][1:] == [
        "scripts/evaluate.py",
        f"--workdir={places.runs}/quickstart_shapes",
        f"--data_dir={places.data_dir}",
        "--predict.output_stride=8",
        "--predict.scales=0.75,1.0,1.25",
        "--predict.flip=true",
        f"--output={places.runs}/shapes/eval8_decoder_ms_flip.json",
    ]
    assert len(commands) == 2 + len(table.rows)


def test_a_row_that_is_scored_is_not_run_again(places):
    rows = zoo.TABLES["shapes"].rows[:2]
    os.makedirs(os.path.dirname(places.scores("shapes", rows[0])))
    pathlib.Path(places.scores("shapes", rows[0])).write_text('{"mean_iou": 0.5}')
    todo, _ = steps("shapes", rows, places, [])
    assert [step.arguments[0] for step in todo] == ["train.py", "evaluate.py"]
    assert todo[1].arguments[-1].endswith("eval8.json")
    pathlib.Path(places.scores("shapes", rows[1])).write_text('{"mean_iou": 0.5}')
    assert steps("shapes", rows, places, []) == ([], {})


def test_a_scale_counts_as_its_share_of_the_pixels_and_the_mirrored_image_too():
    network = zoo.RECIPES["quickstart_shapes"].model
    assert passes(Inference(network)) == 1
    assert passes(Inference(network, (0.5, 1.0, 1.5), True)) == 2 * (0.25 + 1 + 2.25)


def test_the_curves_of_a_figure_are_one_command(places):
    rows = zoo.TABLES["shapes_figure4"].rows
    todo, _ = steps("shapes_figure4", rows, places, [])
    assert [step.arguments[0] for step in todo] == ["train.py", "train.py", "trimap.py"]
    assert f"--workdirs={places.runs}/quickstart_shapes_no_decoder," in str(todo[-1])
    assert "--names=w/ BU,w/ Decoder" in todo[-1].arguments
    folder = pathlib.Path(places.runs) / "shapes_figure4"
    folder.mkdir(parents=True)
    (folder / "trimap.json").write_text('{"models": {"w/ BU": {}}}')
    assert steps("shapes_figure4", rows, places, [])[0] == todo
    (folder / "trimap.json").write_text('{"models": {"w/ BU": {}, "w/ Decoder": {}}}')
    assert steps("shapes_figure4", rows, places, []) == ([], {})


def test_a_run_from_elsewhere_resumes_without_what_it_started_from(places):
    name = "deeplabv3plus_xception65_coco_voc2012_os16"
    checkpoints = pathlib.Path(places.workdir(name)) / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints.parent / "recipe.json").touch()
    (before,) = reproduce_plan._training_steps(name, places, [])
    assert any(flag.startswith("--init_weights=") for flag in before.arguments)
    (checkpoints / "ckpt-5.index").touch()
    (step,) = reproduce_plan._training_steps(name, places, [])
    assert not any(flag.startswith("--init_weights=") for flag in step.arguments)


def test_a_curve_is_of_workdirs_with_commas_and_spaces_too(tmp_path):
    places = Places(str(tmp_path / "a, b"), None, "weights")
    todo, _ = steps("shapes_figure4", zoo.TABLES["shapes_figure4"].rows, places, [])
    (flag,) = (flag for flag in todo[-1].arguments if flag.startswith("--workdirs="))
    assert absl_flags.ListParser().parse(flag.partition("=")[2]) == [  # as trimap.py does
        f"{places.runs}/quickstart_shapes_no_decoder",
        f"{places.runs}/quickstart_shapes",
    ]
    script, *arguments = todo[-1].arguments
    assert shlex.split(str(todo[-1])) == ["python", f"scripts/{script}", *arguments]


# --- figures ----------------------------------------------------------------------------------


def test_both_ways_of_counting_differ_by_what_padding_costs():
    config = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", separable=False)
    found = multiply_adds_of(
        {"one": Inference(config), "two": Inference(config, (0.5, 1.0), True)},
        image_size=(513, 513),
        num_classes=3,
    )
    assert 0 < found["one"]["true_multiply_adds"] < found["one"]["multiply_adds"]
    ratio = found["two"]["true_multiply_adds"] / found["one"]["true_multiply_adds"]
    assert 2 * 1.25 == pytest.approx(ratio, rel=0.02)


@pytest.mark.slow  # full-size networks
@pytest.mark.parametrize("key", ["deeplab3", "deeplab5"])
def test_every_row_but_one_figure_is_within_a_thousandth_of_the_papers(key, shared_dir):
    table = zoo.TABLES[key]
    ours = multiply_adds_of(
        {row.name: inference_of(row) for row in table.rows},
        image_size=table.cost_size,
        num_classes=table.cost_classes,
    )
    apart = {
        row.figures["multiply_adds"]
        for row in table.rows
        if abs(ours[row.name]["multiply_adds"] / row.figures["multiply_adds"] - 1) > 1e-3
    }
    assert apart <= {101.28}
    path = shared_dir / "reference" / "deeplab" / "multiply_adds.json"
    known = {
        row["paper_B"]: row["conv_ideal_B"]
        for row in json.loads(path.read_text())["rows"]
        if row["table"] in ("T3", "T5")
    }
    for row in table.rows:
        true = ours[row.name]["true_multiply_adds"]
        assert true == pytest.approx(known[row.figures["multiply_adds"]], abs=0.006)


def test_speeds_are_compared_with_the_first_network():
    configs = [
        FastFCNConfig(backbone="resnet_deep_stem_tiny", head="fcn", upsampler=name)
        for name in ("none", "jpu")
    ]
    none, jpu = speeds_of(configs, image_size=(65, 65), num_classes=3, batch_size=1, rounds=1)
    assert none["speed_ratio"] == none["cost_ratio"] == 1
    assert none["speed"] == none["mean_speed"]  # the median and the mean of one round
    assert jpu["speed_ratio"] == pytest.approx(jpu["speed"] / none["speed"])
    assert jpu["cost_ratio"] == pytest.approx(none["multiply_adds"] / jpu["multiply_adds"])


def test_the_mean_is_that_of_the_speeds_of_ten_calls_each():
    seconds = [0.1] * 10 + [0.2] * 5 + [0.6] * 5  # 10 and 2.5 images a second
    assert mean_speed(seconds, batch_size=1) == pytest.approx(6.25)
    assert mean_speed([0.5, 1.5], batch_size=2) == pytest.approx(2.0)


# --- tables -----------------------------------------------------------------------------------

TABLE = Table(
    title="A table",
    columns=("Decoder",),
    measures=("mean_iou", "multiply_adds", "true_multiply_adds"),
    rows=(
        Row(name="a", cells=("x",), figures={"mean_iou": 70.0, "multiply_adds": 2.0}, note="why"),
        Row(name="b", cells=("",), figures={"mean_iou": 60.5, "multiply_adds": 1.0}),
    ),
)
OURS = {
    "a": {"mean_iou": 70.126, "multiply_adds": 2.0001, "true_multiply_adds": 1.5},
    "b": {"multiply_adds": 1.01},
}


def test_a_table_has_the_papers_figure_beside_ours_where_it_has_one():
    cells = report.cells_of(TABLE, TABLE.rows, OURS)
    assert cells == [
        [
            *("row", "Decoder", "mean IoU %: paper", "ours", "multiply-adds B: paper", "ours"),
            "true multiply-adds B: ours",
        ],
        ["a", "x", "70.00", "70.13", "2.00", "2.00", "1.50"],
        ["b", "", "60.50", "", "1.00", "1.01", ""],
    ]
    notes = report.notes_of(TABLE, TABLE.rows, OURS)
    assert notes[0] == "a: why."
    assert notes[1].startswith("Multiply-adds of 1 of 2 rows are within 0.1 % of the paper's.")
    text = report.as_text(TABLE.title, cells, notes).splitlines()
    assert text[0] == "A table" and text[2].split()[0] == "row"
    assert text[3].endswith("1.50") and text[4].endswith("1.01")
    assert list(csv.reader(report.as_csv(cells).splitlines())) == cells
    markdown = report.as_markdown(TABLE.title, cells, notes).splitlines()
    assert markdown[3].count("---") == 7
    assert markdown[4] == "| a | x | 70.00 | 70.13 | 2.00 | 2.00 | 1.50 |"


def test_figures_are_read_from_scores_in_percent(tmp_path):
    path = tmp_path / "scores.json"
    assert report.figures_of(str(path)) == {}
    path.write_text('{"mean_iou": 0.59, "mean_iou_background_as_0": 0.5, "pixel_accuracy": null}')
    assert report.figures_of(str(path)) == pytest.approx({"mean_iou": 59.0, "mean_iou_60": 50.0})
    path.write_text('{"top_1": 0.75, "top_5": 0.9}')
    assert report.figures_of(str(path)) == pytest.approx({"top_1_error": 25, "top_5_error": 10})
    path.write_text('{"mean_iou": "high"}')
    assert report.figures_of(str(path)) == {}
    path.write_text('{"mean_iou": ')
    with pytest.raises(ValueError, match=r"scores\.json is damaged; remove it"):
        report.figures_of(str(path))


@pytest.mark.parametrize("name", ["shapes/eval16.json", "shapes_figure4/trimap.json"])
def test_a_damaged_file_of_results_is_named_before_anything_is_run(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text('{"mean_iou": ')
    done = run(f"--table={path.parent.name}", f"--runs={tmp_path}", "--plan_only")
    assert done.returncode == 1
    assert f"error: {path} is damaged; remove it" in done.stderr
    assert "train.py" not in done.stdout


# --- as a command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --list, or one of the tables with --table"),
        (["--table=deeplab8"], "--table=deeplab8: value should be one of"),
        (["--list", "--row=a"], "--row chooses what --table runs"),
        (["--list", "--table=deeplab3", "--row=train16_eval16"], "give both, without --list"),
        (["--table=shapes", "--", "--workdir=a"], "must be other ones of train.py; got --workdir"),
        (["--table=deeplab3", "--row=train16"], "row"),
        (["--table=deeplab3", "deeplab5"], "unexpected argument 'deeplab5'"),
        (["--table=deeplab3", "--runs="], "--runs must be given and not empty"),
        (["--table=deeplab3", "--row="], "--row must be given and not empty"),
        (["--table=shapes", "--runs=/dev/null/runs"], "Name another directory with --runs"),
        (["--table=fastfcn2", "--rounds=0"], "--rounds=0"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_is_imported(flags, message):
    done = run(*flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert "loading TensorFlow" not in done.stdout


def test_ctrl_c_reaches_a_command_once(tmp_path):
    # A second signal would end a training before its state is saved.
    command = tmp_path / "command.py"
    command.write_text(
        "import signal, time\n"
        "got = []\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, lambda number, frame: got.append(number))\n"
        "print('ready', flush=True)\n"
        "while not got:\n"
        "    time.sleep(0.05)\n"
        "time.sleep(1)\n"
        "print('signals:', len(got), flush=True)\n"
    )
    code = (
        "import cli, reproduce, reproduce_plan\n"
        f"step = reproduce_plan.Step(arguments=({str(command)!r},))\n"
        "cli.run(lambda argv: reproduce._run(step))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    terminal = subprocess.Popen(
        [sys.executable, "-c", code], env=env, start_new_session=True, **pipes
    )
    with terminal:
        assert terminal.stdout.readline() == "ready\n"
        os.killpg(terminal.pid, signal.SIGINT)  # as a terminal does
        output, errors = terminal.communicate(timeout=60)
    assert (output, errors) == ("signals: 1\n", "\nstopped\n")
    assert terminal.returncode == 130


@pytest.mark.slow  # two processes, a training in one of them
def test_a_row_is_trained_scored_and_written_and_the_command_resumes(tmp_path):
    flags = [
        "--table=shapes",
        "--row=eval8_decoder",
        f"--runs={tmp_path}",
        *("--", "--train.steps=2", "--dataset.num_examples=10"),
    ]
    first = run(*flags)
    assert first.returncode == 0, first.stderr
    assert "step 1 of 2: python scripts/train.py --recipe=quickstart_shapes" in first.stdout
    scores = json.loads((tmp_path / "shapes" / "eval8_decoder.json").read_text())
    assert f"{100 * scores['mean_iou']:.2f}" in (tmp_path / "shapes" / "table.csv").read_text()
    again = run(*flags)
    assert again.returncode == 0, again.stderr
    assert "step 1" not in again.stdout
    assert first.stdout.split("\n\n")[-1].splitlines()[-1] == again.stdout.splitlines()[-1]


@pytest.mark.slow  # a process that trains
def test_a_command_that_fails_ends_the_run_with_its_own_message(tmp_path):
    flags = ["--table=shapes", "--row=eval16", f"--runs={tmp_path}", "--", "--train.split=nowhere"]
    done = run(*flags)
    assert done.returncode == 1
    assert "no 'nowhere' split" in done.stderr
    assert "the command failed with exit code 1: python scripts/train.py" in done.stderr
    assert (tmp_path / "shapes" / "table.md").exists()

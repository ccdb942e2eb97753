import json
import os
import pathlib
import subprocess
import sys

import benchmark_fps
import benchmark_speed
import benchmark_tables
import pytest

from deeplab_tf.model import DeepLabV3PlusConfig

ROOT = pathlib.Path(__file__).parent.parent.parent


def run(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "one of --table, --model and --recipe"),
        (["--table=deeplab3", "--recipe=quickstart_shapes"], "one of --table, --model"),
        (["--recipe=quickstart_shape"], "Did you mean 'quickstart_shapes'?"),
        (["--model=deeplabv3plus", "--model.output_stride=9"], "expected 8|16|32; got '9'"),
        (["--model=fastfcn", "--model.separable=true"], "does not apply to model fastfcn"),
        (["--model=deeplabv3plus", "--width=0"], "--width"),
        (["--table=deeplab3", "--against=stock_keras"], "need --model or --recipe; got --table"),
        (["--table=deeplab3", "--sizes=65"], "need --model or --recipe; got --table"),
        (["--model=fastfcn", "--against=stock_keras", "--sizes=65"], "not both"),
        (["--model=fastfcn", "--against=keras"], "--against"),
        (["--model=fastfcn", "--against=stock_keras", "--precision=mixed_float16"], "in float32"),
        (["--model=fastfcn", "--sizes=65,x"], "--sizes must be one or more numbers"),
        (["--model=fastfcn", "--sizes="], "--sizes must be one or more numbers"),
        (["--model=fastfcn", "--sizes=65", "--height=65"], "leave --height and --width out"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_is_imported(flags, message):
    done = run(*flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_measurement_has_speed_and_memory_of_inference_and_training(monkeypatch):
    monkeypatch.setattr(benchmark_speed, "_ROUND_SECONDS", 0.05)
    inference, training = benchmark_speed.measure(
        DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(1,), decoder=False),
        num_classes=3,
        image_size=(33, 49),
        batch_size=2,
        rounds=1,
    )
    assert (inference.name, training.name) == ("inference", "training step")
    assert inference.parameters == training.parameters > 1000
    assert inference.multiply_adds == training.multiply_adds > 1e6
    assert inference.images_per_second[0] > 0 and training.images_per_second[0] > 0
    assert training.peak_memory >= inference.peak_memory > 1e6


def test_speed_is_given_as_the_median_with_slowest_and_fastest():
    measured = benchmark_speed.Measurement(
        name="inference",
        parameters=1,
        multiply_adds=1,
        images_per_second=(30.0, 10.0, 20.123),
        peak_memory=1,
    )
    assert measured.speed_text() == "20.1 (10 to 30)"


def row(multiply_adds: float, note: str = "") -> benchmark_tables.Row:
    return benchmark_tables.Row(
        train_output_stride=16,
        marks=("MS",),
        model=DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", separable=False),
        scales=(0.5, 1.0),
        flip=False,
        mean_iou=70.0,
        multiply_adds=multiply_adds,
        note=note,
    )


def test_a_table_shows_both_ways_of_counting_and_names_what_differs():
    table = benchmark_tables.Table(
        title="A table",
        columns=("Decoder", "MS"),
        rows=(row(1.0, note="why"), row(1.0, note="why"), row(2.0)),
        num_classes=3,
    )
    lines = benchmark_tables.table_text(table).splitlines()
    heads = lines[4].split()
    cells = lines[5].split()
    assert heads[:5] == ["train", "eval", "Decoder", "MS", "mIoU"]
    assert cells[:4] == ["16", "16", "x", "70.00"]
    true, paper = float(cells[4]), float(cells[5])
    assert 1 < true < paper
    assert cells[6] == "1.00"
    assert lines[5].endswith(" %*") and lines[6].endswith(" %*") and lines[7].endswith(" %")
    assert lines[-2:] == ["0 of 3 rows are within 0.1 % of the paper's figure.", "* why."]


def test_the_rows_are_those_of_the_paper():
    assert len(benchmark_tables.TABLES["deeplab3"].rows) == 14
    assert len(benchmark_tables.TABLES["deeplab5"].rows) == 24
    for table in benchmark_tables.TABLES.values():
        for each in table.rows:
            assert set(each.marks) <= set(table.columns)
            assert each.flip == ("Flip" in each.marks)
            assert len(each.scales) == (6 if "MS" in each.marks else 1)
            assert each.model.decoder == ("Decoder" in each.marks)
            assert each.model.separable == ("SC" in each.marks)


@pytest.fixture(scope="module", params=["deeplab3", "deeplab5"])
def counts(request) -> list[tuple[float, float, float]]:
    """(true count, the paper's way, the paper's figure) of each row that is printed."""
    done = run(f"--table={request.param}")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [cells for cells in lines if cells and cells[-1] in ("%", "%*")]
    return [tuple(map(float, cells[-5:-2])) for cells in rows]


@pytest.mark.slow  # full-size networks in a process of its own
def test_every_row_but_one_figure_is_within_a_thousandth_of_the_papers(counts):
    assert len(counts) in (14, 24)
    apart = {paper for _, profiled, paper in counts if abs(profiled / paper - 1) > 1e-3}
    assert apart <= {101.28}


@pytest.mark.slow  # full-size networks in a process of its own
def test_the_true_count_of_every_row_is_that_of_the_released_codes_convolutions(counts, shared_dir):
    path = shared_dir / "reference" / "deeplab" / "multiply_adds.json"
    known = {
        row["paper_B"]: row["conv_ideal_B"]
        for row in json.loads(path.read_text())["rows"]
        if row["table"] in ("T3", "T5")
    }
    for true, _, paper in counts:
        assert true == pytest.approx(known[paper], abs=0.006)  # two decimals are printed


def test_table_2_of_fastfcn_compares_with_the_dilated_row(capsys):
    rows = [
        benchmark_fps.Row(backbone="resnet_deep_stem_tiny", head="fcn", upsampler=name, fps=fps)
        for name, fps in (("none", 10.0), ("jpu", 25.0))
    ]
    benchmark_fps.print_table([rows], batch_size=1, rounds=1)
    none, jpu = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert none[:3] == ["resnet_deep_stem_tiny", "fcn", "none"]
    assert none[5] == none[6]  # the median and the mean of one round
    assert [none[7], none[9], none[10]] == ["1.00"] * 3
    assert float(jpu[7]) == pytest.approx(float(jpu[5]) / float(none[5]), rel=0.02, abs=0.01)
    assert jpu[9] == "2.50"
    assert float(jpu[10]) == pytest.approx(float(none[4]) / float(jpu[4]), rel=0.02, abs=0.01)


def test_the_mean_is_that_of_the_speeds_of_ten_calls_each():
    seconds = [0.1] * 10 + [0.2] * 5 + [0.6] * 5  # 10 and 2.5 images a second
    assert benchmark_fps.mean_speed(seconds, batch_size=1) == pytest.approx(6.25)
    assert benchmark_fps.mean_speed([0.5, 1.5], batch_size=2) == pytest.approx(2.0)

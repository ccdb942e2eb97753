import csv
import glob
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.training.report.run_log import RunLog


def read_csv(workdir) -> str:
    return (workdir / "metrics.csv").read_text("utf-8")


def curve(workdir) -> np.ndarray:
    with Image.open(workdir / "training_curve.png") as picture:
        return np.asarray(picture)


def rows(workdir) -> list[dict[str, str]]:
    with open(workdir / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(workdir) -> list[tf.compat.v1.Event]:
    (path,) = glob.glob(str(workdir / "events" / "*tfevents*"))
    return [
        tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)
    ]


def log_steps(log: RunLog, first: int, last: int) -> None:
    """Loss at every step, an evaluation at every third."""
    for step in range(first, last + 1):
        log.scalars(step, {"loss": 1 / step, "learning_rate": 0.1})
        if step % 3 == 0:
            log.scalars(step, {"val_mean_iou": step / 10})


def test_rows_of_unlike_columns_share_one_table(tmp_path):
    log = RunLog(str(tmp_path))
    log_steps(log, 1, 4)
    assert read_csv(tmp_path) == (
        "step,loss,learning_rate,val_mean_iou\n"
        "1,1,0.1,\n"
        "2,0.5,0.1,\n"
        "3,0.333333333,0.1,\n"
        "3,,,0.3\n"
        "4,0.25,0.1,\n"
    )


@pytest.mark.parametrize("killed_at", [2, 3, 5, 7])
def test_resumed_table_equals_the_uninterrupted_one(tmp_path, killed_at):
    log_steps(RunLog(str(tmp_path / "whole")), 1, 8)
    log_steps(RunLog(str(tmp_path / "resumed")), 1, killed_at)
    log_steps(RunLog(str(tmp_path / "resumed"), resume_step=2), 3, 8)
    assert read_csv(tmp_path / "resumed") == read_csv(tmp_path / "whole")


def test_part_of_a_row_is_dropped(tmp_path):
    log_steps(RunLog(str(tmp_path)), 1, 4)
    whole = read_csv(tmp_path)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("5,0.2")
    RunLog(str(tmp_path), resume_step=10)
    assert read_csv(tmp_path) == whole


def test_a_run_that_starts_again_drops_everything(tmp_path):
    RunLog(str(tmp_path)).scalars(0, {"loss": 1.0})
    RunLog(str(tmp_path))
    assert read_csv(tmp_path) == "step\n"


def test_a_table_that_is_not_ours_is_named_with_its_line(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\nthree,4\n")
    with pytest.raises(ValueError, match=r"metrics.csv line 3 is not a row .*'three,4\\n'"):
        RunLog(str(tmp_path), resume_step=1)


def test_float32_values_read_back_exactly(tmp_path):
    value = float(np.float32(1) / np.float32(3))
    RunLog(str(tmp_path)).scalars(1, {"loss": value})
    assert np.float32(read_csv(tmp_path).split(",")[-1]) == np.float32(value)


def test_speed_and_memory_are_in_the_event_file_alone(tmp_path):
    log = RunLog(str(tmp_path))
    log.scalars(5, {"loss": 0.5}, events_only={"images_per_second": 12.5, "memory_gb": 3.0})
    log.close()
    assert read_csv(tmp_path) == "step,loss\n5,0.5\n"
    values = {v.tag: v.simple_value for v in events(tmp_path)[-1].summary.value}
    assert values == {"loss": 0.5, "images_per_second": 12.5, "memory_gb": 3.0}


def test_values_that_are_not_finite_are_written_and_read_back(tmp_path):
    log = RunLog(str(tmp_path))
    log.scalars(1, {"a": float("nan"), "b": np.float32("inf"), "c": float("-inf")})
    log.close()
    values = [value.simple_value for value in events(tmp_path)[-1].summary.value]
    np.testing.assert_array_equal(values, [np.nan, np.inf, -np.inf])
    RunLog(str(tmp_path), resume_step=1)
    assert read_csv(tmp_path) == "step,a,b,c\n1,nan,inf,-inf\n"


def test_class_names_with_commas_and_quotes_are_columns(tmp_path):
    names = ["val_iou/door, double", 'val_iou/"sky"', "val_iou/Bäume", "val_iou/ "]
    log = RunLog(str(tmp_path))
    log.scalars(1, dict.fromkeys(names, 0.5))
    log = RunLog(str(tmp_path), resume_step=1)
    log.scalars(2, dict.fromkeys(names, 0.25))
    assert rows(tmp_path) == [
        {"step": "1", **dict.fromkeys(names, "0.5")},
        {"step": "2", **dict.fromkeys(names, "0.25")},
    ]


@pytest.mark.parametrize("back_to", [0, 2])
def test_a_run_goes_back_to_an_earlier_step_with_a_new_log(tmp_path, back_to):
    log_steps(RunLog(str(tmp_path / "whole")), 1, 8)
    log = RunLog(str(tmp_path / "recovered"))
    log_steps(log, 1, 5)
    log.scalars(5, {"only_before": 1.0})
    log.close()
    log_steps(RunLog(str(tmp_path / "recovered"), resume_step=back_to), back_to + 1, 8)
    assert read_csv(tmp_path / "recovered") == read_csv(tmp_path / "whole")
    assert len(glob.glob(str(tmp_path / "recovered" / "events" / "*"))) == 2


@pytest.mark.parametrize("back_to", [0, 2])
def test_tensorboard_reads_what_metrics_csv_and_pictures_hold(tmp_path, back_to):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs TensorBoard, pip install -e '.[tensorboard]'",
    )
    log = RunLog(str(tmp_path))
    log_steps(log, 1, 4)
    log.picture(4, "val-0", np.zeros((2, 2, 3), np.uint8))
    log.close()
    log = RunLog(str(tmp_path), resume_step=back_to)
    log_steps(log, back_to + 1, 7)
    log.scalars(7, {"val_iou/a, b": float("nan")}, events_only={"memory_gb": 3.0})
    for step in (4, 7):
        log.picture(step, "val-0", np.full((2, 2, 3), step, np.uint8))
    log.close()

    found = reader.EventAccumulator(str(tmp_path / "events"), {"scalars": 0, "images": 0}).Reload()
    tags = found.Tags()
    logged: dict[str, list[tuple[int, float]]] = {"memory_gb": [(7, 3.0)]}
    for row in rows(tmp_path):
        for name, cell in row.items():
            if cell and name != "step":
                logged.setdefault(name, []).append((int(row["step"]), float(cell)))
    assert len(logged["loss"]) == 7
    assert set(tags["scalars"]) == set(logged)
    for name, points in logged.items():
        read = [(event.step, event.value) for event in found.Scalars(name)]
        np.testing.assert_allclose(read, points, rtol=1e-7, err_msg=name)
    assert tags["images"] == ["val-0"]
    images = found.Images("val-0")
    assert [image.step for image in images] == [4, 7]
    for image in images:
        path = tmp_path / "pictures" / f"val-0-{image.step}.png"
        assert image.encoded_image_string == path.read_bytes()


def test_event_file_holds_scalars_and_pictures_without_tensorboard(tmp_path):
    log = RunLog(str(tmp_path), resume_step=6)
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    log.scalars(7, {"loss": 0.5})
    log.picture(7, "val-0", picture)
    log.close()
    version, start, scalar, image = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, tf.compat.v1.SessionLog.START)
    assert (scalar.step, scalar.summary.value[0].tag) == (7, "loss")
    assert scalar.summary.value[0].simple_value == 0.5
    assert (image.step, image.summary.value[0].tag) == (7, "val-0")
    encoded = image.summary.value[0].image
    assert (encoded.height, encoded.width) == (2, 4)
    decoded = Image.open(io.BytesIO(encoded.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(decoded), picture)
    saved = Image.open(tmp_path / "pictures" / "val-0-7.png")
    np.testing.assert_array_equal(np.asarray(saved), picture)


def test_curve_has_a_panel_for_each_title_whose_column_has_values(tmp_path):
    log = RunLog(str(tmp_path))
    titles = {"loss": "loss", "val_mean_iou": "val mean IoU"}
    log.curve(titles)
    sizes = [curve(tmp_path).shape]
    log_steps(log, 1, 2)
    log.curve(titles)
    sizes.append(curve(tmp_path).shape)
    log_steps(log, 3, 8)
    log.scalars(9, {"loss": float("nan"), "val_mean_iou": float("nan"), "val_iou/sky": 0.5})
    log.curve(titles)
    sizes.append(curve(tmp_path).shape)
    assert sizes == [(300, 800, 3), (300, 800, 3), (600, 800, 3)]


def test_curve_falls_where_the_loss_falls(tmp_path):
    log = RunLog(str(tmp_path))
    for step in range(1, 101):
        log.scalars(step, {"loss": 100.0 - step})
    log.curve({"loss": "loss"})
    picture = curve(tmp_path).astype(int)
    blue = picture[..., 2] - picture[..., 0] > 100
    rows = [np.flatnonzero(blue[:, column]).mean() for column in (100, 300, 500, 700)]
    assert rows == sorted(rows)
    assert rows[-1] - rows[0] > 100

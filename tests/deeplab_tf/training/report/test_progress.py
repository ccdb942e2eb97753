import io

from deeplab_tf.training.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress_at(stream, times, **options) -> Progress:
    return Progress("training", 100, stream=stream, clock=iter(times).__next__, **options)


def test_time_left_is_estimated_from_the_steps_of_this_run():
    stream = io.StringIO()
    progress = progress_at(stream, [50.0, 70.0], start=10, every=0)
    progress.update(20, {"loss": 0.51234})
    progress.update(30)
    first, second = stream.getvalue().splitlines()
    assert first == "training 20/100 (20%)  loss 0.5123"
    assert second == "training 30/100 (30%)  2.0 s each  ETA 2:20"


def test_values_follow_the_time_left():
    stream = io.StringIO()
    progress = progress_at(stream, [0.0, 1800.0], every=0)
    progress.update(1)
    progress.update(2, {"loss": 0.5, "loss_aux": float("nan"), "images_per_second": 12.3456})
    assert stream.getvalue().splitlines()[1] == (
        "training 2/100 (2%)  1800.0 s each  ETA 49:00:00"
        "  loss 0.5  loss_aux nan  images_per_second 12.35"
    )


def test_on_a_terminal_the_line_is_shorter_than_a_row(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    progress = progress_at(stream, [0.0, 1.0])
    values = {f"loss_{i}": 0.5 for i in range(20)}
    progress.update(1, values)
    progress.update(2, values)
    _, first, second = stream.getvalue().split("\r")
    assert len(first) == len(second) == 49
    assert second.startswith("training 2/100 (2%)  1.0 s each  ETA 1:38  loss_0")


def test_away_from_a_terminal_lines_are_rare_but_the_last_is_printed():
    stream = io.StringIO()
    progress = progress_at(stream, [0.0, 1.0, 9.0, 11.0, 11.5], every=10.0)
    for done in (1, 2, 3, 4, 100):
        progress.update(done)
    shown = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert shown == ["1/100", "4/100", "100/100"]


def test_on_a_terminal_one_line_is_rewritten_and_ended():
    stream = Terminal()
    progress = progress_at(stream, [0.0, 1.0, 2.0])
    progress.update(1, {"loss": 1.0})
    progress.update(2)
    progress.update(100)
    text = stream.getvalue()
    assert text.count("\r") == 3
    assert text.count("\n") == 1 and text.endswith("\n")


def test_closing_ends_an_unfinished_line_once():
    stream = Terminal()
    progress = progress_at(stream, [0.0])
    progress.update(1)
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1

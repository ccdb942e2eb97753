import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from deeplab_tf.training.report.meter import Meter, peak_memory

_STATUS = pathlib.Path("/proc/self/status")


def meter_at(times) -> Meter:
    return Meter(8, clock=iter(times).__next__)


def test_images_per_second_are_those_since_the_last_reading():
    meter = meter_at([100.0, 102.0, 112.0])
    speeds = [meter.read(step).get("images_per_second") for step in (20, 40, 45)]
    assert speeds == [None, 20 * 8 / 2, 5 * 8 / 10]


def test_a_pause_counts_in_no_reading():
    meter = meter_at([0.0, 60.0, 61.0, 71.0, 73.0, 173.0, 175.0])
    with meter.paused():  # before the first reading
        pass
    meter.read(10)  # at 61 s
    with meter.paused():  # from 71 to 73 s
        pass
    assert meter.read(20)["images_per_second"] == 10 * 8 / (173 - 61 - 2)
    assert meter.read(30)["images_per_second"] == 10 * 8 / 2


@pytest.mark.skipif(
    not _STATUS.exists() or bool(tf.config.list_physical_devices("GPU")),
    reason="compares with the peak that Linux reports, where no GPU is measured",
)
def test_memory_is_the_peak_of_the_process_in_bytes():
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    expected = 1024 * int(line.split()[1])  # "VmHWM:  123 kB"
    assert peak_memory() == pytest.approx(expected, rel=0.02)
    assert meter_at([0.0]).read(1) == {"memory_gb": pytest.approx(expected / 1e9, rel=0.02)}


@pytest.mark.skipif(not _STATUS.exists(), reason="elsewhere the system counts the parent too")
def test_memory_of_the_process_that_started_this_one_is_not_counted():
    block = bytearray(b"1") * (1 << 30)
    code = "from deeplab_tf.training.report import meter; print(meter.peak_resident_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < len(block)


@pytest.mark.gpu
def test_memory_is_the_peak_of_the_gpu():
    before = peak_memory()
    with tf.device("GPU:0"):
        block = tf.ones([before + 10**8], tf.uint8)
    assert peak_memory() >= block.shape[0]

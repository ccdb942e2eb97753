"""Reads a whole dataset and names every fault: files, sizes, label values.

python scripts/check_dataset.py --data.dataset=folder --data.images_dir=I --data.labels_dir=L
"""

from __future__ import annotations

import cli
from absl import flags

from deeplab_tf.recipe import options as config
from deeplab_tf.recipe import flags as recipe_flags

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
recipe_flags.define_section("data", config.DataConfig)


def main(argv: list[str]) -> None:
    """Prints pixel shares and faults; fails if there are faults."""
    cli.no_arguments(argv)
    data = recipe_flags.section_from_flags("data", config.DataConfig())
    cli.import_tensorflow()
    from deeplab_tf.data import open_dataset
    from deeplab_tf.data.check import check_dataset
    from deeplab_tf.training.run_log import Progress

    dataset = open_dataset(data, _DATA_DIR.value)
    progress = Progress("checking", sum(map(len, dataset.sources.values())))
    report = check_dataset(dataset, progress=lambda done, _: progress.update(done))
    print(report.text())
    if report.problems:
        raise ValueError(f"{len(report.problems)} faulty examples; they are listed above.")
    print("no faults")


if __name__ == "__main__":
    cli.run(main)

"""What a run tells its user: a progress line, its record, the scores of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras

from deeplab_tf.data import pipeline
from deeplab_tf.layers.atrous import farthest_reach
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.parts import Predictor, Recipe
from deeplab_tf.training.report.meter import Meter
from deeplab_tf.training.report.progress import Progress
from deeplab_tf.training.report.run_log import RunLog

_PICTURES = 3  # ours: validation examples drawn at each evaluation
_FEWEST_IMAGES = 16  # cited: DeepLabv3 Sec. 4.1, for the statistics of batch normalization
_LEAST_INSIDE = 0.25  # ours: see `Reach`; both papers' crops have 0.4 or more


class Reports:
    """The reports of one run. Over several machines, the chief makes them."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: OpenDataset,
        workdir: str,
        total_steps: int,
        print_fn: Callable[[str], None],
        between_images: Callable[[], None],
    ):
        """Reports nothing yet; call `start` first.

        Args:
          recipe: that is trained.
          dataset: to train and to evaluate on.
          workdir: of the run.
          total_steps: length of training.
          print_fn: prints a line.
          between_images: called during evaluations; an error that it raises ends them.
        """
        self._recipe, self._dataset, self._workdir = recipe, dataset, workdir
        self._total_steps, self._print = total_steps, print_fn
        self._between_images = between_images

    def start(self, step: int) -> None:
        """Opens the record at `step`; what it has of later steps is dropped. See RunLog."""
        self._log = RunLog(self._workdir, resume_step=step)
        self._progress = Progress("training", self._total_steps, start=step)
        self._meter = Meter(self._recipe.train.batch_size)

    def announce(self, model: keras.Model, replicas: int) -> None:
        """Prints what is trained, and what may surprise."""
        recipe, config, spec = self._recipe, self._recipe.train, self._dataset.spec
        self._print(
            f"training {recipe.model.kind} on {len(self._dataset.source(config.split))} examples of"
            f" {spec.name}: {self._total_steps} steps of batch {config.batch_size} on"
            f" {replicas} replica(s)"
        )
        if recipe.eval.split not in self._dataset.sources:
            self._print(f"nothing is scored: {spec.name} has no {recipe.eval.split!r} split")
        images = config.batch_size // config.accumulation_steps
        if recipe.model.batch_norm == "per_replica":
            images //= replicas
        if recipe.model.batch_norm != "frozen" and images < _FEWEST_IMAGES:
            self._print(
                f"warning: batch normalization takes its statistics from {images} images; it needs"
                f" about {_FEWEST_IMAGES} (DeepLabv3, Sec. 4.1). With fewer, scores may be lower."
                " Use a larger batch, or pretrained weights and --model.batch_norm=frozen."
            )
        crop = pipeline.check_one_size(recipe.augment)
        reach = farthest_reach(model, *crop)
        if reach is not None and reach.inside < _LEAST_INSIDE:
            self._print(
                f"warning: {reach.layer} has rate {reach.rate} on feature maps of"
                f" {reach.size[0]}x{reach.size[1]} pixels, from crops of {crop[0]}x{crop[1]}. Its"
                f" outer weights meet the image at {reach.inside:.0%} of the positions and hardly"
                " learn, which spoils predictions of larger images. Use larger crops, or smaller"
                " atrous_rates of the model or its head."
            )

    @property
    def first_loss(self) -> float | None:
        """The loss of the first step that was reported; None: none was."""
        return self._log.first_loss

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Reports losses and the learning rate of a step."""
        measured = self._meter.read(step)
        self._log.scalars(step, values, events_only=measured)
        # What matters most comes first, in short words: a narrow terminal cuts the line.
        shown = {"loss": values["loss"], "rate": values["learning_rate"]}
        if "images_per_second" in measured:
            shown["images/s"] = measured["images_per_second"]
        shown["GB"] = measured["memory_gb"]
        others = {n: v for n, v in values.items() if n not in ("loss", "learning_rate")}
        self._progress.update(step, {**shown, **others})

    def evaluation(self, step: int, predictor: Predictor) -> Mapping[str, float]:
        """Scores the weights as they are, draws some predictions and returns the scores."""
        recipe, spec, split = self._recipe, self._dataset.spec, self._recipe.eval.split
        self._progress.close()
        source = self._dataset.source(split)
        bar = Progress(f"evaluating {split}", len(source))

        def progress(done: int, _: int | None) -> None:
            bar.update(done)
            self._between_images()

        with self._meter.paused():
            result = recipe.predict.evaluate(
                predictor,
                pipeline.eval_examples(source),
                spec,
                recipe.eval,
                progress=progress,
                name_of=source.name,
            )
            scores = {f"{split}_{name}": value for name, value in result.all_scores.items()}
            self._log.scalars(step, scores)
            for i, example in enumerate(pipeline.eval_examples(source).take(_PICTURES)):
                image, label = example["image"].numpy(), example["label"].numpy()
                label_map = predictor.label_map(image).numpy()
                strip = visualization.strip(
                    image,
                    label,
                    label_map,
                    spec.palette,
                    spec.ignore_label,
                    class_names=spec.class_names,
                )
                self._log.picture(step, f"{split}-{i}", strip)
        for alarm in result.alarms:
            self._print(f"warning: {alarm}")
        return result.scores

    def scores(self, step: int, scores: Mapping[str, float], best: bool) -> None:
        """Prints the scores of an evaluation."""
        metrics = self._recipe.predict.metrics
        listed = (f"{metrics[name].title} {100 * value:.2f} %" for name, value in scores.items())
        self._print(
            f"step {step}: {self._recipe.eval.split} {', '.join(listed)}"
            + (", the best so far" if best else "")
        )

    def curve(self) -> None:
        """Draws the loss and the scores of all evaluations so far."""
        split, metrics = self._recipe.eval.split, self._recipe.predict.metrics
        titles = {f"{split}_{name}": f"{split} {row.title}" for name, row in metrics.items()}
        self._log.curve({"loss": "loss", **titles})

    def close(self) -> None:
        """Closes the record."""
        self._progress.close()
        self._log.close()

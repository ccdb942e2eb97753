"""A loss and a metric for `model.compile`: Keras' own, which leave out void pixels."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="deeplab_tf")
class CrossEntropyLoss(keras.losses.SparseCategoricalCrossentropy):
    """Softmax cross entropy of logits, averaged over the pixels that have a class.

    Labels are [N, H, W] or [N, H, W, 1], logits [N, H, W, K].

    Args:
      ignore_label: label value of the pixels that do not count.
      reduction: see keras.losses.Loss.
      name: of the loss.
      dtype: of the computation; None: float32.
    """

    def __init__(
        self,
        ignore_label: int = 255,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cross_entropy",
        dtype: Any = None,
    ):
        super().__init__(
            from_logits=True,
            ignore_class=ignore_label,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "ignore_label": self.ignore_class,
            "reduction": self.reduction,
            "name": self.name,
            "dtype": self.dtype,
        }


@keras.saving.register_keras_serializable(package="deeplab_tf")
class MeanIoU(keras.metrics.MeanIoU):
    """Mean intersection over union of the classes that occur in labels or predictions.

    Labels are [N, H, W], logits [N, H, W, K].

    Args:
      num_classes: K, background counted, void not.
      ignore_label: label value of the pixels that do not count.
      name: of the metric.
      dtype: of the pixel counts; None: an integer type.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int = 255,
        *,
        name: str = "mean_iou",
        dtype: Any = None,
    ):
        super().__init__(
            num_classes, name=name, dtype=dtype, ignore_class=ignore_label, sparse_y_pred=False
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Counts a batch.

        Raises:
          ValueError: the logits have another number of classes.
        """
        if y_pred.shape[-1] != self.num_classes:
            raise ValueError(
                f"num_classes must be {y_pred.shape[-1]}, the network's; got {self.num_classes}."
            )
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_class,
            "name": self.name,
            "dtype": self.dtype,
        }

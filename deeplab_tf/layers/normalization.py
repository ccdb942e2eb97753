"""Batch normalization: the fused kernel on one replica, one packed all-reduce on several."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from deeplab_tf.recipe.lazy import tf

_STATISTICS = ("synchronized", "per_replica", "frozen")


@keras.saving.register_keras_serializable(package="deeplab_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras' batch normalization, synchronized over replicas and with the authors' statistics.

    The weights are Keras' own, so files interchange with keras.layers.BatchNormalization. On the
    TensorFlow backend it differs in four ways; elsewhere it is Keras' layer.

    * The moving variance averages the unbiased batch variance (code: both papers' released
      code does so through its fused kernels; Keras averages the biased one).
    * A replica's own statistics, and inference, run the fused kernel. It takes half precision as it
      is and computes in float32. It has no float64, which is computed by the formula.
    * With several replicas the statistics are those of the global batch. Each replica puts its
      mean, variance and pixel count in a row of one all-reduced matrix and merges the rows, so
      that nothing cancels however far the mean is from zero. Half precision is cast to float32.
    * Statistics of each replica are averaged over the replicas before they enter the moving ones,
      so the replicas' copies remain equal. Keras' copies drift apart, and the first one is saved.

    Args:
      statistics: what training normalizes with. "synchronized": mean and variance of the global
        batch. "per_replica": those of the replica's part (code: DeepLab's training on several
        GPUs; its moving statistics are those of the first one). "frozen": the moving statistics,
        which do not change, while gamma and beta do (code: DeepLab's fine_tune_batch_norm=False).
      **layer_options: see keras.layers.BatchNormalization.

    Raises:
      ValueError: `statistics` is none of the three.
    """

    def __init__(self, *, statistics: str = "synchronized", **layer_options):
        super().__init__(**layer_options)
        if statistics not in _STATISTICS:
            raise ValueError(
                f"statistics must be one of {', '.join(_STATISTICS)}; got {statistics!r}."
            )
        self.statistics = statistics

    def call(self, inputs, training=None, mask=None):
        """Normalizes [N, h, w, C] over all axes but the last; same shape and dtype out."""
        use_batch = bool(training) and self.trainable and self.statistics != "frozen"
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=use_batch, mask=mask)
        merge = use_batch and self.statistics == "synchronized" and _num_replicas() > 1
        x = inputs
        if merge or not _fused_kernel_takes(tf.as_dtype(x.dtype).name):
            # Sums in half precision overflow; Keras' layer computes in float32 too.
            x = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        fused = x.dtype != "float64"
        if not use_batch:
            outputs = self._normalize_with_moving_statistics(x, fused)
        elif merge or not fused:
            outputs = self._normalize_by_formula(x, merge)
        else:
            outputs = self._normalize_fused(x)
        return ops.cast(outputs, self.compute_dtype)

    def _normalize_with_moving_statistics(self, x, fused):
        if not fused:
            return self._normalize_with(self.moving_mean, self.moving_variance, x)
        return tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(self.moving_mean),
            variance=tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=False,
        ).y

    def _normalize_fused(self, x):
        result = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased variance.
        self._update_moving_statistics(result.batch_mean, result.batch_variance)
        return result.y

    def _normalize_by_formula(self, x, merge):
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], x.dtype)
        if merge:
            mean, variance, count = _merged_over_replicas(mean, variance, count)
        unbiased = variance * (count / tf.maximum(count - 1.0, 1.0))
        self._update_moving_statistics(mean, unbiased)
        return self._normalize_with(mean, variance, x)

    def _normalize_with(self, mean, variance, x):
        mean, variance, beta, gamma = map(
            tf.convert_to_tensor, (mean, variance, self.beta, self.gamma)
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)

    def _update_moving_statistics(self, mean, variance):
        if self.statistics == "per_replica" and _num_replicas() > 1:
            context = tf.distribute.get_replica_context()
            mean, variance = context.all_reduce("MEAN", [mean, variance])
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "statistics": self.statistics}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BatchNorm:
        """The layer of a config; earlier versions wrote `use_batch_statistics`."""
        config = dict(config)
        old = config.pop("use_batch_statistics", None)
        if old is not None:
            config["statistics"] = "synchronized" if old else "frozen"
        return super().from_config(config)


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def _merged_over_replicas(mean, variance, count):
    """(mean [C], biased variance [C], number of pixels) of the global batch, from the replica's."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    own_row = tf.concat([mean, variance, [count]], axis=0)
    place = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=mean.dtype)
    rows = context.all_reduce("SUM", place[:, None] * own_row[None, :])
    means, variances, counts = tf.split(rows, [mean.shape[0], mean.shape[0], 1], axis=1)
    total = tf.reduce_sum(counts)
    weights = counts / total
    mean = tf.reduce_sum(weights * means, axis=0)
    variance = tf.reduce_sum(weights * (variances + (means - mean) ** 2), axis=0)
    return mean, variance, total


@functools.cache
def _fused_kernel_takes(dtype: str) -> bool:
    """Whether the fused kernel, in training and inference, takes `dtype` here and is right.

    That depends on the device. Value and gradients are compared once with those in float32, on a
    tiny input.
    """
    if dtype in ("float32", "float64"):  # TensorFlow has it everywhere, or nowhere
        return dtype == "float32"

    def value_and_gradients(x, is_training):
        scale, offset = tf.constant([1.5, 0.5]), tf.constant([0.25, -1.0])
        statistics = tf.zeros([0]) if is_training else tf.constant([3.0, 2.0])
        y = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=scale,
            offset=offset,
            mean=statistics,
            variance=statistics,
            epsilon=1e-3,
            is_training=is_training,
        ).y
        # Symbolic: the scope below pauses gradient tapes.
        return [tf.cast(t, tf.float32) for t in [y, *tf.gradients(y**3, [x, scale, offset])]]

    @tf.function(autograph=False)
    def largest_errors():
        x = tf.cast(3.0 + tf.sin(tf.reshape(tf.range(36.0), [2, 3, 3, 2])), dtype)
        errors = [
            tf.reduce_max(tf.abs(own - known)) / tf.reduce_max(tf.abs(known))
            for is_training in (True, False)
            for own, known in zip(
                value_and_gradients(x, is_training),
                value_and_gradients(tf.cast(x, tf.float32), is_training),
                strict=True,
            )
        ]
        return tf.stack(errors)

    with tf.init_scope():  # outside any graph that is being traced
        try:
            return all(error <= 5e-2 for error in largest_errors().numpy())
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False  # the answer to the question asked

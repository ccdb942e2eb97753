"""Batch normalization: the fused kernel on one replica, one packed all-reduce on several."""

from __future__ import annotations

import keras
from keras import ops

from deeplab_tf.recipe.lazy import tf


def full_precision() -> str:
    """The dtype where half precision is too coarse: float32, or float64 under a float64 policy.

    Networks run in float64 to be compared with others to the last digits.
    """
    return keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")


@keras.saving.register_keras_serializable(package="deeplab_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras' batch normalization, synchronized over replicas and with the authors' statistics.

    The weights are Keras' own, so files interchange with keras.layers.BatchNormalization. On the
    TensorFlow backend it differs in three ways; elsewhere it is Keras' layer.

    * The moving variance averages the unbiased batch variance (code: both papers' released
      code does so through its fused kernels; Keras averages the biased one).
    * One replica, and inference, run the fused kernel. The kernel has no float64, which is
      computed as for several replicas.
    * With several replicas the statistics are those of the global batch. Each replica puts its
      mean, variance and pixel count in a row of one all-reduced matrix and merges the rows, so
      that nothing cancels however far the mean is from zero.

    Args:
      use_batch_statistics: False: training normalizes with the moving statistics too, and still
        trains gamma and beta (code: DeepLab's fine_tune_batch_norm=False).
      **layer_options: see keras.layers.BatchNormalization.
    """

    def __init__(self, *, use_batch_statistics: bool = True, **layer_options):
        super().__init__(**layer_options)
        self.use_batch_statistics = use_batch_statistics

    def call(self, inputs, training=None, mask=None):
        """Normalizes [N, h, w, C] over all axes but the last; same shape and dtype out."""
        use_batch = bool(training) and self.trainable and self.use_batch_statistics
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=use_batch, mask=mask)
        # Sums in half precision overflow; Keras' layer computes in float32 too.
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        fused = x.dtype == "float32"
        if not use_batch:
            outputs = self._normalize_with_moving_statistics(x, fused)
        elif _num_replicas() > 1 or not fused:
            outputs = self._normalize_over_replicas(x)
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

    def _normalize_over_replicas(self, x):
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], x.dtype)
        own_row = tf.concat([mean, variance, [count]], axis=0)
        place = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=x.dtype)
        rows = context.all_reduce(tf.distribute.ReduceOp.SUM, place[:, None] * own_row[None, :])
        means, variances, counts = tf.split(rows, [mean.shape[0], mean.shape[0], 1], axis=1)
        total = tf.reduce_sum(counts)
        weights = counts / total
        mean = tf.reduce_sum(weights * means, axis=0)
        variance = tf.reduce_sum(weights * (variances + (means - mean) ** 2), axis=0)
        unbiased = variance * (total / tf.maximum(total - 1.0, 1.0))
        self._update_moving_statistics(mean, unbiased)
        return self._normalize_with(mean, variance, x)

    def _normalize_with(self, mean, variance, x):
        mean, variance, beta, gamma = map(
            tf.convert_to_tensor, (mean, variance, self.beta, self.gamma)
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)

    def _update_moving_statistics(self, mean, variance):
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "use_batch_statistics": self.use_batch_statistics}


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1

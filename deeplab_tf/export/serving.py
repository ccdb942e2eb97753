"""What exported graphs have in common: pixels in, label map out, native atrous convolutions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from deeplab_tf.inference import inference_model
from deeplab_tf.recipe.lazy import keras, tf

_TRACING = threading.RLock()


def serving_model(model: keras.Model, *, probabilities: bool) -> keras.Model:
    """A model of pixels, with batch normalization folded; see `inference_model`.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      probabilities: whether it gives them too.

    Returns:
      image uint8 [N, H, W, 3] -> {"label_map": int32 [N, H, W]} and "probabilities", float32
      [N, H, W, K].
    """
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    logits = inference_model(model)(keras.ops.cast(image, "float32"))
    outputs = keras.layers.Lambda(predictions)(logits)
    if not probabilities:
        del outputs["probabilities"]
    return keras.Model(image, outputs)


def predictions(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """What exports that run on TensorFlow give.

    Args:
      logits: [N, H, W, K].

    Returns:
      "label_map", int32 [N, H, W], and "probabilities", float32 [N, H, W, K].
    """
    logits = tf.cast(logits, tf.float32)
    return {
        # Of the logits: softmax rounds nearly equal ones to equal probabilities. Not
        # keras.ops.argmax, which looks at the bits of zeros (Keras 3.15): LiteRT lacks that.
        "label_map": tf.argmax(logits, axis=-1, output_type=tf.int32),
        "probabilities": tf.nn.softmax(logits),
    }


@contextlib.contextmanager
def native_atrous_convolutions() -> Iterator[None]:
    """Traces atrous depthwise convolutions of every rate as one operation.

    TensorFlow alone runs those of a large rate faster by space-to-batch. In a whole network on a
    CPU that hardly matters (513x513, native / space-to-batch: Xception-65 at output stride 16 0.9,
    at 8 with rates of 12, 24 and 36 1.2). Other engines run seven operations in place of one.

    One thread at a time is in it: the rate belongs to the class.
    """
    from deeplab_tf.layers.atrous import AtrousDepthwiseConv2D

    with _TRACING:
        largest = AtrousDepthwiseConv2D.LARGEST_NATIVE_RATE
        AtrousDepthwiseConv2D.LARGEST_NATIVE_RATE = float("inf")
        try:
            yield
        finally:
            AtrousDepthwiseConv2D.LARGEST_NATIVE_RATE = largest

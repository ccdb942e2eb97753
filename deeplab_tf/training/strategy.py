"""Which devices train, and how a batch divides over them."""

from __future__ import annotations

import functools

import tensorflow as tf


@functools.cache
def make_strategy(devices: tuple[str, ...] = ()) -> tf.distribute.Strategy:
    """A MirroredStrategy over `devices`; by default over every GPU, else the CPU.

    A second call with the same devices returns the same strategy. In one process, a second strategy
    over them takes the first one's collective operations for its own and fails (TensorFlow 2.21).

    Raises:
      ValueError: a device does not exist.
    """
    known = [device.name.rpartition("device:")[2] for device in tf.config.list_logical_devices()]
    given = [device.removeprefix("/").removeprefix("device:") for device in devices]
    if len(set(given)) < len(given) or not set(given) <= set(known):
        raise ValueError(
            f"train.devices must be different devices of this machine, {', '.join(known)}; got"
            f" {', '.join(devices)}."
        )
    if not devices:
        devices = tuple(d.name for d in tf.config.list_logical_devices("GPU")) or ("CPU:0",)
    return tf.distribute.MirroredStrategy(list(devices))


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Checks that every replica gets the same part of a batch.

    Raises:
      ValueError: the batch does not divide over the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        near = batch_size // replicas * replicas
        raise ValueError(
            f"train.batch_size must be a multiple of {replicas}, the number of replicas; got"
            f" {batch_size}. Use {f'{near} or ' if near else ''}{near + replicas}."
        )

"""What benchmarks ask of `tf.data`."""

import tensorflow as tf


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A data set that ends when it ends: with autotuning on, TensorFlow 2.21 waits for a thread that sleeps."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)

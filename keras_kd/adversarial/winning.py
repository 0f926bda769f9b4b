"""Warns where the discriminator wins outright."""

import warnings

import keras

WON = 0.99


class WinningDiscriminator(keras.callbacks.Callback):
    """Warns, once, when the discriminator was right 99 times of 100 for two epochs in a row."""

    def on_train_begin(self, logs=None):
        self.won_before = self.warned = False

    def on_epoch_end(self, epoch, logs=None):
        accuracy = logs["discriminator_accuracy"]
        wins = accuracy >= WON
        if wins and self.won_before and not self.warned:
            self.warned = True
            warnings.warn(
                f"`AdversarialDistiller`: the discriminator wins: it was right about {accuracy:.1%} in epoch "
                f"{epoch + 1} and {WON:.0%} or more in the epoch before, and the student learns little from it. Lower "
                "the learning rate of `discriminator_optimizer`, set `label_smoothing=0.1` or "
                "`spectral_normalization=True`, or take fewer `discriminator_steps`.",
                stacklevel=2,
            )
        self.won_before = wins

"""A student that learns to be taken for its teacher: the distiller, the games, and the default discriminator."""

from keras_kd.adversarial.discriminators import discriminator_for
from keras_kd.adversarial.distiller import AdversarialDistiller
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.adversarial.modes import AC, ANC, GAN, MODES, Hinge, Mode, WassersteinGP
from keras_kd.adversarial.three_players import ThreePlayerDistiller

MODES["kdgan"] = KDGAN
KDGAN.distiller = ThreePlayerDistiller

__all__ = [
    "AC",
    "ANC",
    "GAN",
    "KDGAN",
    "AdversarialDistiller",
    "Hinge",
    "Mode",
    "ThreePlayerDistiller",
    "WassersteinGP",
    "discriminator_for",
    "label_discriminator",
]

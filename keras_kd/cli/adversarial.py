"""`keras-kd adversarial`: `keras-kd distill`, with a discriminator that learns to tell student and teacher apart."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras

from keras_kd import plots
from keras_kd.adversarial import AdversarialDistiller
from keras_kd.adversarial.modes import MODES
from keras_kd.cli.distill import add_options, distil
from keras_kd.distiller import Distiller

GAME = ("mode", "adversarial_weight", "on", "discriminator_steps", "label_smoothing", "spectral_normalization")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "adversarial",
        help="distil a teacher into a student that is to be taken for it by a discriminator",
        description="Distils a teacher into a student as `keras-kd distill` does, and trains a discriminator to tell "
        "the two apart, which the student learns to deceive. Exports the student alone. The discriminator has Adam at "
        "a constant rate. In mode kdgan the teacher learns too; its file stays as it is.",
    )
    add_options(parser)
    parser.add_argument(
        "--mode", default="ac", choices=MODES, help="what discriminator and student minimise (default ac)"
    )
    parser.add_argument(
        "--adversarial-weight", type=float, default=0.1, metavar="W", help="weight of the game (default 0.1)"
    )
    parser.add_argument(
        "--on",
        metavar="TAPS",
        help="what is judged: logits, a layer of both, or TEACHER_LAYER,STUDENT_LAYER (default: the mode's)",
    )
    parser.add_argument("--discriminator-learning-rate", type=float, default=1e-4, metavar="R", help="default 1e-4")
    parser.add_argument(
        "--discriminator-steps", type=int, default=1, metavar="N", help="its updates for one of the student (default 1)"
    )
    parser.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="E", help="the teacher's label is 1 - E (default 0)"
    )
    parser.add_argument(
        "--spectral-normalization", action="store_true", help="hold each layer of the discriminator at spectral norm 1"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    rate = options.discriminator_learning_rate
    if not 0.0 < rate < math.inf:
        raise ValueError(f"--discriminator-learning-rate must be > 0. Received: {rate:g}")
    code = distil(
        options,
        _game(options),
        asked=(*GAME, "discriminator_learning_rate"),
        discriminator_optimizer=keras.optimizers.Adam(rate),
    )
    if code == 0:
        print(_outcome(Path(options.out)))
    return code


def _game(options: argparse.Namespace) -> Callable[..., Distiller]:
    taps = options.on.split(",") if "," in (options.on or "") else options.on
    return partial(AdversarialDistiller, **{**{name: getattr(options, name) for name in GAME}, "on": taps})


def _outcome(out: Path) -> str:
    """How the game stood at last."""
    last = {name: values[-1] for name, values in plots.read_history(out / "history.csv").items()}
    names = ("adversarial_loss", "discriminator_loss", "discriminator_accuracy")
    told = ", ".join(f"{name.replace('_', ' ')} {last[name]:.4f}" for name in names)
    return f"The game in its last epoch: {told}."

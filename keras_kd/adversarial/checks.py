"""All that is checked of a game before the first step."""

from typing import Any

import keras

from keras_kd.adversarial.judged import penultimate
from keras_kd.adversarial.modes import Mode
from keras_kd.probabilities import scores_by_graph
from keras_kd.projectors import Shape
from keras_kd.replay import WithSignals, keys_of
from keras_kd.teachers import Ensemble, as_teacher

OWNER = "`AdversarialDistiller`"


def arguments(distiller: Any, discriminator: Any) -> None:
    """Checks the arguments of the constructor that hang together.

    Raises:
        ValueError: If one is none of what it must be, or two exclude each other.
    """
    mode, steps, taken = distiller.mode, distiller.discriminator_steps, distiller._more_means
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(
            f"{OWNER}: `discriminator_steps` must be an integer >= 1. Received: discriminator_steps={steps!r}. For one "
            "update in two steps give the discriminator's optimizer `gradient_accumulation_steps=2`."
        )
    if discriminator is not None and not isinstance(discriminator, keras.Model):
        raise ValueError(f"{OWNER}: `discriminator` must be a `keras.Model` or None. Received: {discriminator!r}.")
    if discriminator is not None and distiller.spectral_normalization:
        raise ValueError(
            f"{OWNER}: `spectral_normalization=True` is for the default discriminator. Received: "
            f"`{discriminator.name}` besides. Wrap its layers in `keras.layers.SpectralNormalization`."
        )
    if distiller.label_smoothing and not mode.smooths_labels:
        raise ValueError(
            f"{OWNER}: the discriminator of `{type(mode).__name__}` has no labels to smooth. Received: "
            f"label_smoothing={distiller.label_smoothing:g}. Leave it out, or take mode='gan', 'ac' or 'anc'."
        )
    names = [name for name in distiller.objective_names if name in taken]
    if names:
        raise ValueError(f"{OWNER}: {names} are metrics of the distiller itself. Give the objective another `name`.")


def default_on(mode: Mode, student: keras.Model, teacher: Any) -> str | tuple[str, str]:
    """What is judged where nothing is named.

    Raises:
        ValueError: If the mode judges what goes into the last layer, and a model does not tell which that is.
    """
    if not mode.penultimate:
        return "logits"
    members = getattr(as_teacher(teacher), "members", ())
    taps = (penultimate(members[0].model) if len(members) == 1 else None, penultimate(student))
    if None in taps:
        whose = [name for name, tap in zip(("teacher", "student"), taps, strict=True) if tap is None]
        raise ValueError(
            f"{OWNER}: `{type(mode).__name__}` judges what goes into the last layer, and the {' and the '.join(whose)} "
            f"{'does' if len(whose) == 1 else 'do'} not tell which that is: it is not built, has no graph or several "
            "outputs, or is not there. Name the layers, the teacher's first, as in `on=('head:input', 'head:input')`."
        )
    return taps


def discriminator_optimizer(student: Any, given: Any, discriminator: keras.Model | None) -> Any:
    """Reads the discriminator's optimizer; by default a second one like the student's.

    Raises:
        ValueError: If it is no optimizer, or the student's own.
    """
    if given is None:
        given = type(student).from_config(student.get_config())
    if given is student:
        raise ValueError(
            f"{OWNER}: student and discriminator need an optimizer each. Received `{student.name}` for both. Leave "
            "`discriminator_optimizer` out for a second one of the same settings."
        )
    try:
        optimizer = keras.optimizers.get(given)
    except ValueError as error:
        raise ValueError(
            f"{OWNER}: `discriminator_optimizer` must be an optimizer. Received: {given!r}. Name the other arguments, "
            "as in `compile('adam', loss=...)`."
        ) from error
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if discriminator is None or discriminator.dtype_policy.name != "mixed_float16" or scales:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def game(mode: Mode, student: Any) -> None:
    """Checks that a game of labels has one output and classes.

    Raises:
        ValueError: If it has not.
    """
    if not mode.reads_labels:
        return
    shapes = {name: tuple(output.shape) for name, output in student.outputs.items()}
    if len(shapes) != 1 or next(iter(shapes.values()))[-1] in (None, 1):
        raise ValueError(
            f"{OWNER}: `{type(mode).__name__}` needs the class logits of a student with one output. Received: "
            f"outputs of the shapes {shapes}. Take mode='gan', which needs no classes."
        )


def discriminator(model: keras.Model, shape: Shape, seen: Any, outputs: int, y: Any = None) -> None:
    """Asks the discriminator about symbols, which builds one that is not built.

    Args:
        model: The discriminator.
        shape: Of what it judges.
        seen: Spec of the student's inputs.
        outputs: How many scores the game wants.
        y: Spec of the labels, where the game reads them.

    Raises:
        ValueError: If it does not take what it is shown, or gives something else than the scores.
    """
    shown = [keras.KerasTensor(shape, "float32")]
    if sees_inputs(model):
        inputs = keras.tree.flatten(seen)
        if len(inputs) != 1:
            raise ValueError(
                f"{OWNER}: the discriminator `{model.name}` has two inputs, what it judges and the student's input, "
                f"which must be one tensor. Received: {len(inputs)} inputs. Give a discriminator of one input."
            )
        shown.append(keras.KerasTensor(inputs[0].shape, inputs[0].dtype.name))
    shapes = " and ".join(str(tuple(one.shape)) for one in shown)
    try:
        scores = model(shown if len(shown) > 1 else shown[0])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{OWNER}: the discriminator `{model.name}` does not take what it is shown, {_what(shown)} of shape "
            f"{shapes}. It judges outputs or features, not images. Give it these inputs, or leave it out for a default."
        ) from error
    found = scores_by_graph(model)
    if found is not None and set(found.outputs.values()) & {"sigmoid", "softmax"}:
        raise ValueError(
            f"{OWNER}: the discriminator must give scores, logits of any size. Received: `{model.name}`, whose output "
            f"is a {found.outputs.popitem()[1]}. Leave out the last activation: the losses are computed from logits, "
            "where no probability is rounded to zero."
        )
    given = getattr(scores, "shape", None)
    if given is None or len(given) < 2 or given[-1] != outputs:
        classes = "" if outputs == 1 else ": one for the source, then one for each class"
        raise ValueError(
            f"{OWNER}: the discriminator `{model.name}` must give {outputs} score(s) in its last axis{classes}. "
            f"Received: {scores if given is None else tuple(given)} of what has the shape {shapes}."
        )
    if y is not None and len(y.shape) not in (len(given) - 1, len(given)):
        raise ValueError(
            f"{OWNER}: the discriminator `{model.name}` must give scores for each label. Received: scores of shape "
            f"{tuple(given)}, labels of shape {tuple(y.shape)}. Give a discriminator that scores every place, or take "
            "mode='gan', 'hinge' or 'wgan-gp'."
        )


def sees_inputs(model: keras.Model) -> bool:
    """Whether it has two inputs."""
    inputs = getattr(model, "inputs", None) if model.built else None
    return inputs is not None and len(inputs) == 2


def gives_log_probabilities(teacher: Any, x: Any) -> bool:
    """Whether a teacher, or the cache that speaks for it, gives logarithms of probabilities and not logits."""
    if isinstance(x, WithSignals):
        return any(key.member is not None or key.temperature is not None for key in keys_of(x.signals))
    return isinstance(teacher, Ensemble) or teacher.outputs == "probabilities"


def _what(shown: list[Any]) -> str:
    return "a tensor" if len(shown) == 1 else "the judged and the inputs,"

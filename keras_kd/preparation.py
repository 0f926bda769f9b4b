"""All that is checked and built before the first step, so that no traced step has to complain."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_kd.batches import batch_spec, probe_of_spec, read_first
from keras_kd.objectives import Objective
from keras_kd.probabilities import refuse_probabilities, refuse_student_scores, scores_by_graph, scores_by_value
from keras_kd.replay import WithSignals, heard, inputs_of, refuse_unheard
from keras_kd.scalars import as_float
from keras_kd.signals import EnsembleSignals, Signals
from keras_kd.taps import forward
from keras_kd.teachers import Ensemble, Teacher

if TYPE_CHECKING:
    from keras_kd.distiller import Distiller


def check_teacher(teacher: Teacher | Ensemble, student: keras.Model, objectives: Sequence[Objective]) -> None:
    """Checks what can be told of teacher and student before any data is there.

    Raises:
        ValueError: If the two are one model, or an output is a probability that was not declared.
    """
    for member in teacher.members:
        if member.model is student:
            raise ValueError(
                f"`Distiller`: teacher and student must be two models. Received `{student.name}` as both. For "
                "self-distillation give `keras.models.clone_model(student)` with the weights of the student."
            )
        teacher_scores, student_scores = scores_by_graph(member.model), scores_by_graph(student)
        if teacher_scores and student_scores:
            _refuse_probabilities(objectives, member, teacher_scores, student, student_scores)


def prepare(distiller: "Distiller", x: Any, y: Any) -> Any:
    """Checks and builds for the data that `fit` was given, once per teacher.

    Returns:
        The data; a generator of which a batch had to be read, whole again.

    Raises:
        ValueError: If the distiller cannot train on it.
    """
    if not distiller.compiled:
        raise ValueError("`Distiller`: call `compile()` before `fit()`.")
    distiller._refuse_workers()
    specs = batch_spec(x, y)
    if specs is None:
        _check_teaching(distiller, None)
    if specs is None and not distiller._has_all_weights():
        # What is not built by the first step cannot be restored by a callback before it.
        x, specs = read_first(x)
    if specs is not None:
        prepare_for(distiller, *specs)
    return x


def prepare_for(distiller: "Distiller", x: Any, y: Any) -> None:
    """Checks and builds for inputs and labels of the given specs.

    Raises:
        ValueError: If teacher, student and objectives do not fit each other or the data.
    """
    _check_teaching(distiller, x)
    _check_labels(distiller, y)
    if distiller._teaching.prepared:
        return
    with distiller.distribute_strategy.scope():
        probe = probe_of_spec(inputs_of(x), rows=_fixed_batch(distiller) or 2)
        if probe is not None:
            _build(distiller, probe)
            _refuse_hidden_probabilities(distiller, probe)
        teacher, student = _fit_listeners(distiller, x)
        distiller._complete(x, y, teacher, student)
        distiller.built = True
        distiller._teaching.finished = finished_student(distiller)
        if not distiller.trainable_variables:
            raise ValueError(
                f"`Distiller`: the student `{distiller.student.name}` has nothing to train: its layers are frozen, or "
                "all its weights are the teacher's too."
            )
        if not distiller.optimizer.built:
            distiller.optimizer.build(distiller.trainable_variables)
        _build_compiled(distiller, y, student)
    distiller._teaching.prepared = True


def _build_compiled(distiller: "Distiller", y: Any, student: Signals) -> None:
    """Spares `fit` a second trace of the step: Keras builds what is compiled in the first."""
    for compiled in (distiller._compile_loss, distiller._compile_metrics):
        if y is not None and compiled is not None and not compiled.built:
            compiled.build(y, student.structure)


def _check_teaching(distiller: "Distiller", x: Any) -> None:
    source = distiller._teaching.source
    if isinstance(x, WithSignals):
        if source is not None:
            raise ValueError(
                f"`Distiller`: the data carry what a teacher said, and there is a teacher, `{source.name}`, besides. "
                "Take one of them: set `distiller.teacher = None`, or train on the data without the cache."
            )
        refuse_unheard(x.signals, distiller._listeners, distiller._asked, as_float(distiller.temperature))
    elif source is None:
        raise ValueError(
            "`Distiller`: there is no teacher to learn from. Assign one, `distiller.teacher = model`; it is not saved "
            "with the student. Or train on a cache, `keras_kd.open_cache(path, dataset)`."
        )


def with_replay(distiller: "Distiller", x: Any, callbacks: Any) -> Any:
    """Adds to the callbacks of `fit` what cached data need at the start of each epoch."""
    specs = batch_spec(x) if isinstance(x, tf.data.Dataset) else None
    if specs is None or not isinstance(specs[0], WithSignals):
        return callbacks
    from keras_kd.cache.passes import show_epoch  # here is the first need of `cache`

    def begin(epoch, logs=None):
        show_epoch(x, epoch)
        _check_teaching(distiller, specs[0])  # a schedule may have moved the temperature

    return with_callback(callbacks, keras.callbacks.LambdaCallback(on_epoch_begin=begin))


def with_callback(callbacks: Any, callback: keras.callbacks.Callback) -> Any:
    """Adds one to the callbacks of `fit`, in whatever form they come."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(callback)
        return callbacks
    return [*keras.tree.flatten(callbacks or []), callback]


def _check_labels(distiller: "Distiller", y: Any) -> None:
    alpha = as_float(distiller.alpha)
    reading = [objective.name for objective in distiller._listeners if objective.needs_labels]
    if y is None and reading:
        raise ValueError(
            f"`Distiller`: the objectives {reading} compare with the labels. Received data without. Give `y`."
        )
    if alpha == 0:
        return
    if y is None:
        raise ValueError(
            f"`Distiller`: alpha={alpha:g} weighs the student's own loss, which needs labels. Received data without "
            "them. Give `y`, or set alpha=0 to learn from the teacher alone."
        )
    if distiller._compile_loss is None:
        raise ValueError(
            f"`Distiller`: alpha={alpha:g} weighs the student's own loss, but `compile` was given no `loss`. Give one, "
            "or set alpha=0 to learn from the teacher alone."
        )


def _fit_listeners(distiller: "Distiller", specs: Any) -> tuple[Signals | EnsembleSignals, Signals]:
    """Runs both models on symbols, and lets the listeners see the shapes: the symbols of teacher and student."""
    teacher, student, listeners = distiller._teaching.source, distiller.finished_student, distiller._listeners
    said = {}

    @tf.function(autograph=False)
    def trace(x):
        if teacher is not None:
            teacher.build(x)  # where there was no probe
            taught = teacher.signals(x, [tap for o in listeners for tap in o.teacher_taps])
            said["teacher"] = taught.mapped(_symbol)
        learnt = forward(student, distiller._select(x, student), [tap for o in listeners for tap in o.student_taps])
        said["student"] = learnt.mapped(_symbol)

    trace.get_concrete_function(inputs_of(specs))
    if teacher is None:
        said["teacher"] = heard(keras.tree.map_structure(lambda spec: _symbol("", spec), specs.signals))
    for listener in listeners:
        # Outside the trace: a replicated variable cannot be made within.
        listener.prepare(**said)
    return said["teacher"], said["student"]


def _symbol(name: str, tensor: tf.Tensor) -> keras.KerasTensor:
    return keras.KerasTensor(tensor.shape, tensor.dtype.name)


def finished_student(distiller: "Distiller") -> keras.Model | None:
    """What an objective makes of the student for evaluation and export; `None` where, or as long as, it is as it was.

    Raises:
        ValueError: If the student or the teacher cannot be cut where an objective joins them.
    """
    finishing = [objective for objective in distiller.objectives if objective.finishes_student and objective.built]
    source = distiller._teaching.source
    if not finishing or source is None:
        return None
    return finishing[0].finished(distiller.student, source.members[0].model)


def moving_variables(distiller: "Distiller") -> list[keras.Variable]:
    """What trains, less the end of the student that an objective has put another in the place of."""
    student, finished = distiller.student, distiller.finished_student
    replaced = {id(variable) for variable in student.variables} - {id(variable) for variable in finished.variables}
    return [variable for variable in distiller.trainable_variables if id(variable) not in replaced]


def _fixed_batch(distiller: "Distiller") -> int | None:
    """The batch that a model insists on, as `keras.Input(..., batch_size=8)` makes it."""
    models = [distiller.student, *(member.model for member in _members(distiller))]
    sizes = (
        getattr(tensor, "shape", (None,))[0] for model in models for tensor in getattr(model, "inputs", None) or ()
    )
    return next(filter(None, sizes), None)


def _build(distiller: "Distiller", x: Any) -> None:
    if distiller._teaching.source is not None:
        distiller._teaching.source.build(x)
    if not distiller.student.built:
        distiller.student(distiller._select(x, distiller.student), training=False)


def _refuse_hidden_probabilities(distiller: "Distiller", x: Any) -> None:
    """Looks at what the models really give: a graph may hide a softmax, and a subclass has no graph."""
    student = distiller.student
    with keras.StatelessScope():
        student_scores = scores_by_value(forward(student, distiller._select(x, student)))
        for member in _members(distiller):
            teacher_scores = scores_by_value(forward(member.model, member.inputs_for(x)))
            _refuse_probabilities(distiller._listeners, member, teacher_scores, student, student_scores)
    if distiller._teaching.source is None and any(o.compares_logits for o in distiller._listeners):
        outputs = next(o.outputs for o in distiller._listeners if o.compares_logits)
        for name in outputs or student_scores.outputs:
            refuse_student_scores(student.name, student_scores.outputs.get(name))


def _members(distiller: "Distiller") -> Sequence[Teacher]:
    source = distiller._teaching.source
    return source.members if source is not None else ()


def _refuse_probabilities(
    objectives: Sequence[Objective], teacher: Teacher, taught: Signals, student: keras.Model, learnt: Signals
) -> None:
    for objective in objectives:
        if objective.compares_logits:
            refuse_probabilities(objective, teacher, taught, student.name, learnt)


def warn_of_probability_loss(loss: Any, student: keras.Model, objectives: Sequence[Objective]) -> None:
    """Warns of a cross-entropy that takes the student's logits for probabilities, as the loss names of Keras do."""
    if not any(objective.compares_logits for objective in objectives):
        return
    for one in keras.tree.flatten(loss):
        try:
            config = keras.losses.get(one).get_config() if isinstance(one, str | keras.losses.Loss) else {}
        except (AttributeError, NotImplementedError):
            # A name stands for a function here, whose default is `from_logits=False`.
            config = {"from_logits": False} if str(one).endswith("crossentropy") else {}
        if config.get("from_logits") is False:
            warnings.warn(
                f"`Distiller`: the loss {one!r} takes probabilities, but the student `{student.name}` gives logits. "
                "Compile with a loss object and `from_logits=True`.",
                stacklevel=3,
            )


def supports_jit(teacher: Teacher | Ensemble) -> bool:
    """Whether XLA can compile the teacher's part of the step, as far as its layers say."""
    return all(layer.supports_jit for member in teacher.members for layer in member.model._flatten_layers())


def variable_ids(teacher: Teacher | Ensemble | None) -> set[int]:
    """Identities of all variables that the teacher owns."""
    return {id(variable) for member in (teacher.members if teacher else ()) for variable in member.model.variables}


@contextmanager
def shared_statistics_kept(student: keras.Model, teacher: Teacher | Ensemble | None) -> Iterator[None]:
    """Puts back what the student's forward pass moves in layers that are the teacher's too (BatchNorm statistics)."""
    owned = variable_ids(teacher)
    shared = [variable for variable in student.non_trainable_weights if id(variable) in owned]
    before = [keras.ops.copy(variable) for variable in shared]
    yield
    for variable, value in zip(shared, before, strict=True):
        variable.assign(value)

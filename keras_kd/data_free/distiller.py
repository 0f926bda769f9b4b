"""`DataFreeDistiller`: a student that learns from its teacher on inputs that a generator makes up."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd import preparation
from keras_kd.batches import spec_of
from keras_kd.data_free.generators import check_generator, default_generator
from keras_kd.data_free.methods import DataFreeMethod, as_method
from keras_kd.distiller import Distiller
from keras_kd.objectives import Objective


@keras.saving.register_keras_serializable(package="keras_kd")
class DataFreeDistiller(Distiller):
    """Trains a student to do what a frozen teacher does, without data.

    A generator draws batches of inputs from noise. In each round of `method`:
    - `"dfad"`: the student learns five times to agree with the teacher on what is drawn, then the generator once to
      draw what they disagree on;
    - `"dafl"`: the generator learns to draw what the teacher takes for its own training data, and the student learns
      from the teacher on the same batch.

    `fit` takes no data, but the number of rounds: `fit(steps_per_epoch=50, epochs=40, batch_size=512)`. Labelled data,
    where there are any, go to `evaluate` and to `validation_data`, as with any Keras model.

    Among the metrics: `loss` (the student's), each objective's value by its name, `generator_loss` and its unweighted
    terms: `disagreement`, or `one_hot_loss`, `activation_loss` and `entropy_loss`; and `agreement` and `teacher_kl` on
    request, on what is drawn. `loss` says little: the better the generator, the greater it is.

    The generator's update leaves the student as it is, and every update the teacher. The generator is saved with the
    distiller, never with the student.

    Args:
        student: A `keras.Model` that gives logits.
        teacher: As for `Distiller`, but of Keras models: the generator learns through their gradients.
        generator: A `keras.Model` that makes of noise, a tensor `(batch, ...)` drawn from the normal distribution, what
            the student and the teacher take. Defaults to `image_generator(shape)` of the student's input shape, for
            images in [0, 1].
        objectives: What the student learns by, as for `Distiller`; none may need labels. Defaults to the method's own:
            `LogitsMAE()` for DFAD, `SoftTargets()` for DAFL.
        method: `"dfad"`, `"dafl"`, or a `DFAD` or `DAFL` with settings of its own. Defaults to `"dfad"`.
        temperature: `T > 0` of every objective that was given none. Defaults to 1, as published.
        name: Name of the model. Defaults to `"data_free_distiller"`.

    Raises:
        ValueError: If an argument is out of range, the teacher is no Keras model, or the generator does not fit.

    Example:
        >>> def cnn(width):
        ...     layers = keras.layers
        ...     stack = [layers.Conv2D(width, 3, strides=2, activation="relu"), layers.Flatten(), layers.Dense(3)]
        ...     return keras.Sequential([keras.Input((8, 8, 1)), *stack])
        >>> distiller = DataFreeDistiller(student=cnn(2), teacher=cnn(16))
        >>> distiller.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> history = distiller.fit(steps_per_epoch=2, batch_size=4, verbose=0)
        >>> sorted(history.history)
        ['disagreement', 'generator_loss', 'logits_mae', 'loss']
        >>> distiller.generate(5).shape
        (5, 8, 8, 1)

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006.
        Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian. Data-Free Learning of Student Networks. 2019. arXiv:1904.01186.
        As in the authors' code, student and generator run in training mode throughout; but there the student's
        BatchNorm statistics move in the generator's update too, and here they do not.
    """

    _runs_on_workers = False

    def __init__(
        self,
        student: keras.Model,
        teacher: Any,
        generator: keras.Model | None = None,
        objectives: Objective | Sequence[Objective] | None = None,
        *,
        method: str | DataFreeMethod = "dfad",
        temperature: float = 1.0,
        name: str = "data_free_distiller",
    ):
        method = as_method(method)
        objectives = method.default_objective() if objectives is None else objectives
        super().__init__(student, teacher, objectives, alpha=0.0, temperature=temperature, name=name)
        reading = [objective.name for objective in self.objectives if objective.needs_labels]
        if reading:
            raise ValueError(
                f"`DataFreeDistiller`: what a generator draws has no labels. Received: objectives {reading}, which "
                "compare with labels. Leave them out."
            )
        if generator is None:
            generator = default_generator(student)
        check_generator(generator, student)
        self.generator = generator
        self.method = method
        self._noise_seed = keras.random.SeedGenerator()
        self._means.extend(keras.metrics.Mean(name=key) for key in ("generator_loss", *method.weights))

    @Distiller.teacher.setter
    def teacher(self, teacher: Any) -> None:
        Distiller.teacher.fset(self, teacher)
        source = self._teaching.source
        for member in source.members if source else ():
            if getattr(member.model, "opaque", False):
                raise ValueError(
                    f"`DataFreeDistiller`: the generator learns through the teacher's gradients, and `{member.name}` "
                    "is no Keras model: it gives none. Give the Keras model, or train on data with `Distiller`."
                )

    def _own(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        drawing = {id(variable) for variable in self.generator.variables}
        return [variable for variable in super()._own(variables) if id(variable) not in drawing]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        *,
        generator_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `Distiller.compile` does.

        Args:
            optimizer: The student's, as in Keras.
            loss: What `evaluate` reports on labelled data. Training needs none.
            loss_weights: As in Keras.
            metrics: As in Keras, for labelled data; a list may also name `"agreement"`, `"teacher_kl"` and objectives.
            generator_optimizer: The generator's, as in Keras. Defaults to Adam with a rate of 1e-3, as DFAD has it.
            **kwargs: Everything else that `keras.Model.compile` takes.
        """
        super().compile(optimizer, loss, loss_weights, metrics, **kwargs)
        optimizer = keras.optimizers.get(generator_optimizer or keras.optimizers.Adam(1e-3))
        scaled = keras.optimizers.LossScaleOptimizer
        if isinstance(self.optimizer, scaled) and not isinstance(optimizer, scaled):
            optimizer = scaled(optimizer, name="generator_loss_scale_optimizer")
        self.generator_optimizer = optimizer

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        optimizer = keras.saving.serialize_keras_object(self.generator_optimizer) if config else None
        return {**config, "generator_optimizer": optimizer} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        super().compile_from_config(config)
        self.generator_optimizer.build(self.generator.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int = 256,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        *,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains student and generator for `epochs` times `steps_per_epoch` rounds.

        Args:
            x: Not to be given, nor is `y`: they are refused.
            y: As `x`.
            batch_size: Number of inputs to draw at a time. Defaults to 256.
            epochs: As in Keras.
            verbose: As in Keras.
            callbacks: As in Keras.
            steps_per_epoch: Rounds in an epoch.
            **kwargs: Everything else that `keras.Model.fit` takes, as `validation_data`.

        Returns:
            The history, as in Keras.

        Raises:
            ValueError: If there are data, or no number of rounds.
        """
        self._refuse_data(x, y)
        for name, count in (("steps_per_epoch", steps_per_epoch), ("batch_size", batch_size)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(
                    "`DataFreeDistiller`: there are no data that would end: `fit` must be given `steps_per_epoch` and "
                    f"`batch_size`, whole numbers >= 1. Received: {name}={count!r}."
                )
        self._prepare()
        rounds = tf.data.Dataset.from_tensors(tf.zeros((batch_size,))).repeat()
        kwargs = {"steps_per_epoch": steps_per_epoch, "shuffle": False, **kwargs}
        return super().fit(rounds, None, None, epochs, verbose, callbacks, **kwargs)

    def train_on_batch(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Refused: use `fit(steps_per_epoch=1)`."""
        self._refuse_data(x, y)
        raise ValueError("`DataFreeDistiller`: `train_on_batch` has no batch. Use `fit(steps_per_epoch=1)`.")

    def generate(self, count: int, seed: int | None = None) -> Any:
        """Draws inputs, in inference mode; what training will draw stays the same.

        Args:
            count: How many.
            seed: Of the noise. Defaults to noise that is new each time.

        Returns:
            NumPy arrays `(count, ...)`, in the structure of the student's inputs.
        """
        noise = keras.random.normal((count, *self.generator.input_shape[1:]), seed=seed)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, self.generator(noise, training=False))

    def train_step(self, data: Any) -> dict[str, Any]:
        """One round; all that `data` tells is how many inputs to draw."""
        count = tf.shape(data)[0]
        for _ in range(self.method.student_steps):
            student_logs = super().train_step((self._draw(count),))
        images, generator_logs = self._generator_step(count)
        if not self.method.student_steps:
            student_logs = super().train_step((images,))
        return {**student_logs, **generator_logs}

    def _draw(self, count: Any) -> Any:
        # All replicas have one seed: each draws for all, and takes its own part.
        replicas, place = self.distribute_strategy.num_replicas_in_sync, tf.distribute.get_replica_context()
        noise = keras.random.normal((replicas * count, *self.generator.input_shape[1:]), seed=self._noise_seed)
        start = place.replica_id_in_sync_group * count
        return self.generator(noise[start : start + count], training=True)

    def _generator_step(self, count: Any) -> tuple[Any, dict[str, Any]]:
        """Moves the generator; returns the batch that it moved on, and what to log."""
        with tf.GradientTape() as tape:
            images = self._draw(count)
            teacher = self._ask_teacher(images, [self.method], checked=True)
            with keras.StatelessScope():  # the student's statistics and seeds are its own affair
                student = self._ask_student(images, (), training=True)
            terms = self.method.terms(teacher, student)
            total = sum(self.method.weights[name] * term for name, term in terms.items())
            total += sum((self._aggregate_additional_loss(added) for added in self.generator.losses), start=0.0)
            scaled = self.generator_optimizer.scale_loss(total)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        means = {mean.name: mean for mean in self._means}
        for name, value in {"generator_loss": total, **terms}.items():
            means[name].update_state(value * self.distribute_strategy.num_replicas_in_sync)
        return images, {name: means[name].result() for name in ("generator_loss", *terms)}

    def _prepare(self) -> None:
        """Checks and builds all that a round needs, once the teacher is there."""
        if not self.compiled:
            raise ValueError("`DataFreeDistiller`: call `compile()` before `fit()`.")
        with self.distribute_strategy.scope(), keras.StatelessScope():
            images = self.generator(keras.ops.ones((2, *self.generator.input_shape[1:])), training=False)
        preparation.prepare_for(self, keras.tree.map_structure(spec_of, images), None)
        self.method.prepare(self._teaching.source)
        self._teaching.source.signals(images, self.method.teacher_taps)  # a tap that is not there is found now
        if not self.generator_optimizer.built:
            with self.distribute_strategy.scope():
                self.generator_optimizer.build(self.generator.trainable_variables)

    def _refuse_data(self, x: Any, y: Any) -> None:
        if x is not None or y is not None:
            given = type(y if x is None else x).__name__
            raise ValueError(
                "`DataFreeDistiller`: training takes no data, its generator draws them. Received: data of type "
                f"{given}. Give `steps_per_epoch` alone, and labelled data as `validation_data`; to train on data "
                "use `Distiller`."
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the distiller anew, all but the teacher."""
        config = super().get_config()
        own = {key: keras.saving.serialize_keras_object(getattr(self, key)) for key in ("generator", "method")}
        return {key: value for key, value in config.items() if key not in ("alpha", "student_inputs")} | own

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DataFreeDistiller":
        """Makes a distiller without a teacher."""
        own = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("generator", "method")}
        return super().from_config({**config, **own})

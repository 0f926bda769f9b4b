"""What a hop is trained on: the data as they are, or with what its teachers said of them, kept on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import GeneratorType
from typing import Any

import keras

from keras_kd.assistants.per_hop import OWNER
from keras_kd.assistants.records import numbers_of
from keras_kd.batches import batch_spec, probe_of_spec, read_first
from keras_kd.cache import cache_teacher, open_cache
from keras_kd.cache.examples import Examples
from keras_kd.teachers import Ensemble, Teacher

SHUFFLED_TOGETHER = 10_000
BATCH_SIZE = 32
ENDLESS = -1  # as `tf.data` counts


@dataclass(frozen=True)
class Lessons:
    """What the `fit` of a hop is given.

    Attributes:
        x: Inputs, or a data set.
        y: Labels of inputs that are arrays.
        validation_data: What the best weights are chosen by.
        epochs: How many.
        batch_size: Of arrays, and of single examples where teachers are cached.
        callbacks: The user's own.
        monitor: The metric that the best weights are chosen by.
        in_stable_order: Whether the data are what teachers are cached on, single examples perhaps.
        cached: Whether the batches carry what the teachers said.
        more: Everything else that `fit` takes.
    """

    x: Any
    y: Any
    validation_data: Any
    epochs: int
    batch_size: int | None
    callbacks: Any
    monitor: str | None
    in_stable_order: bool = False
    cached: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def probe(self) -> Any | None:
        """Made-up inputs, to build a model with; `None` where the data do not tell what they look like."""
        singles = hasattr(self.x, "element_spec") and self.in_stable_order and not Examples.of(self.x, OWNER).batched
        x = self.x.batch(BATCH_SIZE) if singles else self.x
        specs = batch_spec(x, self.y)
        if specs is None and not isinstance(x, GeneratorType):  # what is read of a generator, training would miss
            _, specs = read_first(x)
        return None if specs is None else probe_of_spec(specs[0])

    def fit(self, learner: keras.Model, initial_epoch: int, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Trains a learner, with callbacks after the user's own; an endless data set goes on where it was."""
        steps = self.more.get("steps_per_epoch")
        is_endless = steps and hasattr(self.x, "cardinality") and int(self.x.cardinality()) == ENDLESS
        learner.fit(
            self.x.skip(initial_epoch * steps) if is_endless else self.x,
            self.y,
            validation_data=self.validation_data,
            epochs=self.epochs,
            initial_epoch=initial_epoch,
            batch_size=self.batch_size,
            callbacks=[*keras.tree.flatten(self.callbacks or []), *callbacks],
            **self.more,
        )

    def evaluate(self, learner: keras.Model) -> dict[str, float]:
        """What a learner reaches on the validation data, read as `fit` reads them; nothing where there are none."""
        if self.validation_data is None:
            return {}
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.validation_data)
        results = learner.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=self.more.get("validation_batch_size") or self.batch_size,
            steps=self.more.get("validation_steps"),
            verbose=0,
            return_dict=True,
        )
        return numbers_of(results)


def cached(lessons: Lessons, teachers: Mapping[int, Any], folder: Path, options: Mapping[str, Any]) -> Lessons:
    """Asks each teacher once, or reads what an earlier hop has kept of it: lessons that carry what they said.

    Single examples are shuffled and batched, in one endless stream where they can be counted, so that a hop that was
    interrupted goes on with the batch at which it stopped; batches stay as they are.

    Args:
        lessons: Their source is in its stable order.
        teachers: By their places in the chain.
        folder: Where the caches of the chain are.
        options: Arguments of `cache_teacher`, the temperature of the hop among them.
    """
    more = {"verbose": "auto", **lessons.more}
    parts = (lessons.x, lessons.y, more.pop("sample_weight", None))
    source = lessons.x if lessons.y is None else tuple(part for part in parts if part is not None)
    paths = [folder / _name_of(place, teacher, options) for place, teacher in teachers.items()]
    for path, teacher in zip(paths, teachers.values(), strict=True):
        manifest = cache_teacher(teacher, source, path, **{"verbose": more["verbose"], **options})
    opened = open_cache(paths, source, augment=options.get("augment"))
    if not Examples.of(source, OWNER, spec=manifest.contents["data"]["inputs"]).batched:
        count = int(opened.cardinality())
        together = min(count, SHUFFLED_TOGETHER) if count > 0 else SHUFFLED_TOGETHER
        opened = opened.shuffle(together, seed=options.get("seed", 0)) if more.get("shuffle", True) else opened
        opened = opened.batch(lessons.batch_size or BATCH_SIZE).prefetch(2)
        if count > 0:
            more.setdefault("steps_per_epoch", int(opened.cardinality()))
            opened = opened.repeat()
    # The data set shuffles; Keras 3.15 warns of its own default.
    return replace(lessons, x=opened, y=None, cached=True, more={**more, "shuffle": False})


def _name_of(place: int, teacher: Teacher | Ensemble, options: Mapping[str, Any]) -> str:
    """Of a cache: what it holds may be that of one temperature."""
    fixed = options.get("top_k") or options.get("samples") or len(teacher.members) > 1
    return f"model_{place}_at_{options['temperature']:g}" if fixed else f"model_{place}"

"""What cannot be played is refused before the first step, in whole sentences; a game that is won, in a warning."""

import warnings

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.adversarial import AdversarialDistiller
from keras_kd.adversarial.winning import WinningDiscriminator
from tests.adversarial.players import X, Y, adversarial, judge, judge_beside
from tests.cache.caching import refusal_of
from tests.distiller.small_models import cross_entropy, mlp

OWNER = "`AdversarialDistiller`: "


def build(**arguments):
    return adversarial(mlp(), mlp(7, seed=1), **arguments)


def subclassed():
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(3)

        def call(self, x):
            return self.head(x)

    return Hidden()


ARGUMENTS = [
    (
        {"discriminator": "judge"},
        "`discriminator` must be a `keras.Model` or None. Received: 'judge'.",
    ),
    (
        {"discriminator_steps": 0.5},
        "`discriminator_steps` must be an integer >= 1. Received: discriminator_steps=0.5. For one update in two steps "
        "give the discriminator's optimizer `gradient_accumulation_steps=2`.",
    ),
    ({"label_smoothing": 0.6}, "`label_smoothing` must be >= 0 and <= 0.5. Received: label_smoothing=0.6."),
    ({"adversarial_weight": -1}, "`adversarial_weight` must be >= 0. Received: adversarial_weight=-1."),
    (
        {"label_smoothing": 0.1, "mode": "hinge"},
        "the discriminator of `Hinge` has no labels to smooth. Received: label_smoothing=0.1. Leave it out, or take "
        "mode='gan', 'ac' or 'anc'.",
    ),
    (
        {"discriminator": judge(3), "mode": "gan", "spectral_normalization": True},
        "`spectral_normalization=True` is for the default discriminator. Received: `judge` besides. Wrap its layers in "
        "`keras.layers.SpectralNormalization`.",
    ),
    (
        {"on": 7},
        "`on` must be 'logits', a tap of both models, or a pair of taps, the teacher's first. Received: on=7.",
    ),
    (
        {"on": ("hidden", "hidden", "head")},
        "`on` must be 'logits', a tap of both models, or a pair of taps, the teacher's first. Received: "
        "on=('hidden', 'hidden', 'head').",
    ),
    (
        {"objectives": kd.objectives.SoftTargets(name="adversarial_loss")},
        "['adversarial_loss'] are metrics of the distiller itself. Give the objective another `name`.",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "text"), ARGUMENTS, ids=lambda value: None if isinstance(value, dict) else value[:30]
)
def test_arguments(arguments, text):
    assert refusal_of(build, **arguments) == OWNER + text


@pytest.mark.parametrize(
    ("student", "teacher", "whose"),
    [
        (mlp, subclassed, "the teacher does"),
        (subclassed, mlp, "the student does"),
        (mlp, lambda: None, "the teacher does"),
        (subclassed, lambda: [mlp(), mlp()], "the teacher and the student do"),
    ],
)
def test_a_last_layer_that_is_not_told_must_be_named(student, teacher, whose):
    assert refusal_of(AdversarialDistiller, student(), teacher(), mode="anc") == (
        f"{OWNER}`ANC` judges what goes into the last layer, and {whose} not tell which that is: it is not built, has "
        "no graph or several outputs, or is not there. Name the layers, the teacher's first, as in "
        "`on=('head:input', 'head:input')`."
    )


def test_optimizers():
    shared = keras.optimizers.Adam(name="shared")
    distiller = AdversarialDistiller(mlp(), mlp(7, seed=1))
    assert refusal_of(distiller.compile, shared, shared) == (
        f"{OWNER}student and discriminator need an optimizer each. Received `shared` for both. Leave "
        "`discriminator_optimizer` out for a second one of the same settings."
    )
    loss = cross_entropy()
    assert refusal_of(distiller.compile, "adam", loss) == (
        f"{OWNER}`discriminator_optimizer` must be an optimizer. Received: {loss!r}. Name the other arguments, as in "
        "`compile('adam', loss=...)`."
    )


def images(channels=1, seed=0):
    keras.utils.set_random_seed(seed)
    parts = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, channels)), *parts])


def test_the_naive_discriminators_are_told_what_is_wrong():
    """One of images, as tutorials have it; one that ends in a sigmoid, whose logarithm of zero is infinite."""
    of_images = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)], name="judge")
    x, y = np.zeros((4, 8, 8, 1), "float32"), np.zeros(4)
    assert refusal_of(adversarial(images(), images(seed=1), of_images, mode="gan").fit, x, y) == (
        f"{OWNER}the discriminator `judge` does not take what it is shown, a tensor of shape (None, 3). It judges "
        "outputs or features, not images. Give it these inputs, or leave it out for a default."
    )
    sigmoid = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")], name="judge")
    assert refusal_of(adversarial(None, None, sigmoid, mode="gan").train_on_batch, X, Y) == (
        f"{OWNER}the discriminator must give scores, logits of any size. Received: `judge`, whose output is a sigmoid. "
        "Leave out the last activation: the losses are computed from logits, where no probability is rounded to zero."
    )


def test_a_discriminator_of_the_wrong_form():
    assert refusal_of(adversarial(None, None, judge(3, 2), mode="gan").fit, X, Y) == (
        f"{OWNER}the discriminator `judge` must give 1 score(s) in its last axis. Received: (None, 2) of what has the "
        "shape (None, 3)."
    )
    assert refusal_of(adversarial(None, None, judge(3), mode="ac").fit, X, Y) == (
        f"{OWNER}the discriminator `judge` must give 4 score(s) in its last axis: one for the source, then one for "
        "each class. Received: (None, 1) of what has the shape (None, 3)."
    )
    assert refusal_of(adversarial(None, None, judge_beside(3, 9), mode="hinge").fit, X, Y) == (
        f"{OWNER}the discriminator `judge` does not take what it is shown, the judged and the inputs, of shape "
        "(None, 3) and (None, 4). It judges outputs or features, not images. Give it these inputs, or leave it out "
        "for a default."
    )


def test_a_discriminator_beside_several_inputs():
    parts = [keras.Input((2,), name=name) for name in "ab"]
    student = keras.Model(dict(zip("ab", parts, strict=True)), keras.layers.Dense(3)(keras.layers.Concatenate()(parts)))
    distiller = adversarial(student, student_like(student), judge_beside(3, 4), mode="hinge")
    x = {"a": X[:, :2], "b": X[:, 2:]}
    assert refusal_of(distiller.fit, x, Y) == (
        f"{OWNER}the discriminator `judge` has two inputs, what it judges and the student's input, which must be one "
        "tensor. Received: 2 inputs. Give a discriminator of one input."
    )
    # The default one then sees what it judges alone.
    distiller = adversarial(student, student_like(student), mode="hinge")
    distiller.train_on_batch(x, Y)
    assert distiller.discriminator.input_shape == (None, 3)


def student_like(model):
    other = keras.models.clone_model(model)
    other.set_weights([weight + 0.1 for weight in model.get_weights()])
    return other


def test_labels_are_asked_for_where_the_game_names_classes():
    assert refusal_of(adversarial(alpha=0.0, mode="ac").fit, X) == (
        "`Distiller`: the objectives ['adversarial_loss'] compare with the labels. Received data without. Give `y`."
    )
    assert refusal_of(adversarial(mlp(classes=1), mlp(7, classes=1), objectives=[], mode="ac").fit, X, Y) == (
        f"{OWNER}`AC` needs the class logits of a student with one output. Received: outputs of the shapes "
        f"{{'output_0': (None, 1)}}. Take mode='gan', which needs no classes."
    )


def test_labels_of_places_need_scores_of_places():
    def segmentation(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1)])

    x, y = np.zeros((2, 4, 4, 2), "float32"), np.zeros((2, 4, 4))
    distiller = adversarial(segmentation(0), segmentation(1), mode="ac")
    assert refusal_of(distiller.fit, x, y) == (
        f"{OWNER}the discriminator `discriminator` must give scores for each label. Received: scores of shape "
        "(None, 4), labels of shape (None, 4, 4). Give a discriminator that scores every place, or take mode='gan', "
        "'hinge' or 'wgan-gp'."
    )
    places = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(4, 1)])
    logged = adversarial(segmentation(0), segmentation(1), places, mode="ac").train_on_batch(x, y, return_dict=True)
    assert logged["adversarial_loss"] == pytest.approx((np.log(2) + np.log(3)) / 2, rel=1e-5)  # all are zero


def test_logits_that_do_not_fit():
    inputs = keras.Input((4,))
    two = keras.Model(inputs, {"a": keras.layers.Dense(3)(inputs), "b": keras.layers.Dense(2)(inputs)})
    assert refusal_of(adversarial(two, student_like(two), objectives=[], alpha=0.0, mode="gan").fit, X) == (
        f"{OWNER}`on='logits'` is for a student of one output. Received: a student that gives ['a', 'b']. Name the "
        "layers of teacher and student that give the one to judge, as in `on=('mask', 'mask')`."
    )
    assert refusal_of(adversarial(mlp(), mlp(7, classes=5), objectives=[], mode="gan").fit, X, Y) == (
        f"{OWNER}the logits of teacher and student must have one shape. Received for the student's output 'output_0': "
        "teacher (None, 5), student (None, 3). Give models of the same classes, or name layers in `on`."
    )


def test_a_softmax_is_refused_without_any_objective():
    soft = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")], name="soft")
    text = refusal_of(AdversarialDistiller, soft, mlp(), objectives=[], alpha=0.0, mode="gan")
    assert text.startswith("`Distiller`: the student must give logits. Received: `soft`, whose output is a softmax.")


def won(accuracies):
    """The warnings of a run of such epochs."""
    callback = WinningDiscriminator()
    callback.on_train_begin()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch, accuracy in enumerate(accuracies):
            callback.on_epoch_end(epoch, {"discriminator_accuracy": accuracy})
    return [str(one.message) for one in caught]


def test_a_discriminator_that_wins_for_two_epochs_is_warned_of_once():
    assert won([0.9, 0.995, 0.98, 1.0, 0.5]) == []
    assert won([0.5, 0.99, 0.995, 1.0, 1.0, 0.2, 1.0, 1.0]) == [
        f"{OWNER}the discriminator wins: it was right about 99.5% in epoch 3 and 99% or more in the epoch before, and "
        "the student learns little from it. Lower the learning rate of `discriminator_optimizer`, set "
        "`label_smoothing=0.1` or `spectral_normalization=True`, or take fewer `discriminator_steps`."
    ]


@pytest.mark.parametrize(("mode", "expected"), [("gan", 1), ("wgan-gp", 0)])
def test_fit_warns_but_not_of_a_strong_critic(mode, expected):
    """Students and teachers so far apart that every epoch is won."""
    student = mlp()
    student.layers[-1].bias.assign([90.0, 0.0, -90.0])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[-1.0], [0.0], [1.0]])
    teacher = mlp(7, seed=1)
    teacher.layers[-1].bias.assign([-90.0, 0.0, 90.0])
    still = {"optimizer": keras.optimizers.SGD(0.0)}
    distiller = adversarial(student, teacher, model, mode=mode, compile_with=still)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = distiller.fit(X, Y, epochs=3, verbose=0).history
    assert history["discriminator_accuracy"] == [1.0, 1.0, 1.0]
    assert sum("the discriminator wins" in str(one.message) for one in caught) == expected

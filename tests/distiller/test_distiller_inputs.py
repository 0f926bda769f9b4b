"""Teacher and student may see different inputs, under different dtypes, in every kind of Keras model."""

import keras
import numpy as np
import pytest
from keras import layers
from numpy_reference import cross_entropy_values, soft_target_values
from small_models import answers, assert_same, compiled_distiller, cross_entropy, examples, mlp

import keras_kd as kd

IMAGE, Y = examples()
SOUND, _ = examples(seed=1, features=6)


class Subclassed(keras.Model):
    """With or without a `training` argument, on a tensor or on a dict."""

    def __init__(self, width, key=None):
        super().__init__()
        self.key = key
        self.body, self.head = layers.Dense(width, "tanh"), layers.Dense(3)

    def call(self, inputs):
        return self.head(self.body(inputs if self.key is None else inputs[self.key]))


class SubclassedWithTraining(Subclassed):
    def call(self, inputs, training=None):
        return super().call(inputs)


def sequential(width, features=4):
    return mlp(width, seed=width, features=features)


def unbuilt_sequential(width):
    return keras.Sequential([layers.Dense(width, "tanh"), layers.Dense(3)])


def functional(width):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(width, "tanh")(inputs)))


def built_subclassed(width):
    model = Subclassed(width)
    model(IMAGE[:1])
    return model


def two_inputs(width, structure):
    image, sound = keras.Input((4,), name="image"), keras.Input((6,), name="sound")
    inputs = {"image": image, "sound": sound} if structure is dict else [image, sound]
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(width, "tanh")(layers.Concatenate()([image, sound]))))


def predicted(model, x):
    return model.predict(x, verbose=0)


def check(student, teacher, x, *, teacher_sees, student_sees, of=answers, **kwargs):
    """One step from `x` must log what the two give for what they see."""
    distiller = compiled_distiller(student, teacher, **kwargs)
    model = teacher.model if isinstance(teacher, kd.Teacher) else teacher
    before = student.get_weights() if student.built else None
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy(), metrics=["agreement"])
    logged = distiller.fit(x, Y, batch_size=len(Y), validation_data=(x, Y), verbose=0).history
    teacher_logits, student_logits = of(model, teacher_sees), of(student, student_sees)
    hard = cross_entropy_values(Y, student_logits).mean()
    soft = soft_target_values(teacher_logits, student_logits, 4.0).mean()
    agreement = (teacher_logits.argmax(-1) == student_logits.argmax(-1)).mean()
    np.testing.assert_allclose(logged["loss"], [0.3 * hard + 0.7 * soft], rtol=1e-5)
    np.testing.assert_allclose(logged["val_loss"], [hard], rtol=1e-5)
    np.testing.assert_allclose(logged["val_agreement"], [agreement], rtol=1e-6)
    np.testing.assert_allclose(answers(distiller, x), student_logits, rtol=1e-5, atol=1e-6)
    if before:
        assert_same(student.get_weights(), before)


KINDS = {
    "sequential": sequential,
    "unbuilt sequential": unbuilt_sequential,
    "functional": functional,
    "subclassed": Subclassed,
    "built subclassed": built_subclassed,
    "subclassed with training": SubclassedWithTraining,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_student(kind):
    check(KINDS[kind](5), sequential(16), IMAGE, teacher_sees=IMAGE, student_sees=IMAGE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_teacher(kind):
    check(sequential(5), KINDS[kind](16), IMAGE, teacher_sees=IMAGE, student_sees=IMAGE)


def test_both_unbuilt():
    check(Subclassed(5), unbuilt_sequential(16), IMAGE, teacher_sees=IMAGE, student_sees=IMAGE)


@pytest.mark.parametrize("structure", [dict, tuple])
def test_student_sees_one_input_bare_and_teacher_both(structure):
    if structure is dict:
        x, keys = {"image": IMAGE, "sound": SOUND}, ["image"]
    else:
        x, keys = (IMAGE, SOUND), [0]
    teacher = two_inputs(16, structure)
    check(sequential(5), teacher, x, teacher_sees=x, student_sees=IMAGE, student_inputs=keys)
    check(unbuilt_sequential(5), teacher, x, teacher_sees=x, student_sees=IMAGE, student_inputs=keys)


def test_a_key_by_itself_is_a_list_of_one():
    x = {"image": IMAGE, "sound": SOUND}
    check(sequential(5), two_inputs(16, dict), x, teacher_sees=x, student_sees=IMAGE, student_inputs="image")


@pytest.mark.parametrize("structure", [dict, tuple])
def test_teacher_sees_one_input_and_student_another(structure):
    x, (image, sound) = {
        dict: ({"image": IMAGE, "sound": SOUND}, ("image", "sound")),
        tuple: ((IMAGE, SOUND), (0, 1)),
    }[structure]
    teacher = kd.Teacher(sequential(16, features=6), inputs=[sound])
    check(sequential(5), teacher, x, teacher_sees=SOUND, student_sees=IMAGE, student_inputs=[image])


@pytest.mark.parametrize("structure", [dict, tuple])
def test_both_see_some_of_three(structure):
    named = {"extra": IMAGE, "image": IMAGE * 2, "sound": SOUND}
    both = {"image": named["image"], "sound": SOUND}
    x = named if structure is dict else tuple(named.values())
    keys = ["image", "sound"] if structure is dict else [1, 2]
    sees = both if structure is dict else list(both.values())
    check(
        two_inputs(5, structure),
        kd.Teacher(two_inputs(16, structure), inputs=keys),
        x,
        teacher_sees=sees,
        student_sees=sees,
        student_inputs=keys,
    )


def test_a_model_whose_own_input_is_a_dict_of_one_gets_a_dict():
    image = keras.Input((4,), name="image")
    student = keras.Model({"image": image}, layers.Dense(3)(image))
    x = {"image": IMAGE, "sound": SOUND}
    check(student, two_inputs(16, dict), x, teacher_sees=x, student_sees={"image": IMAGE}, student_inputs=["image"])


def test_a_subclassed_student_picks_from_the_dict_itself():
    x = {"image": IMAGE, "sound": SOUND}
    check(Subclassed(5, key="image"), two_inputs(16, dict), x, teacher_sees=x, student_sees=x)


def test_preprocess_is_the_teachers_alone():
    teacher = kd.Teacher(sequential(16), preprocess=lambda x: x * 2.0 - 1.0)
    check(sequential(5), teacher, IMAGE, teacher_sees=IMAGE * 2 - 1, student_sees=IMAGE)


def test_preprocess_gets_what_inputs_select():
    x = {"image": IMAGE, "sound": SOUND}
    teacher = kd.Teacher(sequential(16), inputs=["sound"], preprocess=lambda sound: sound[:, :4] + 1.0)
    check(sequential(5), teacher, x, teacher_sees=SOUND[:, :4] + 1, student_sees=IMAGE, student_inputs=["image"])


def test_integers_reach_both_models_as_integers():
    x = np.random.default_rng(0).integers(0, 256, (12, 4)).astype("uint8")
    inputs = keras.Input((4,), dtype="uint8")
    student = keras.Model(inputs, layers.Dense(3)(layers.Rescaling(1 / 255)(inputs)))
    teacher = kd.Teacher(sequential(16), preprocess=lambda pixels: keras.ops.cast(pixels, "float32") / 255 - 0.5)
    check(student, teacher, x, teacher_sees=x.astype("float32") / 255 - 0.5, student_sees=x)


@pytest.mark.parametrize(("of_teacher", "of_student"), [("float64", "float32"), ("float32", "float64")])
def test_dtypes_may_differ(of_teacher, of_student):
    models = []
    for policy, width in ((of_teacher, 16), (of_student, 5)):
        keras.config.set_dtype_policy(policy)
        models.append(functional(width))
    keras.config.set_dtype_policy("float32")
    teacher, student = models
    assert (teacher(IMAGE).dtype, student(IMAGE).dtype) == (of_teacher, of_student)
    check(student, teacher, IMAGE, teacher_sees=IMAGE, student_sees=IMAGE)


def test_a_bfloat16_teacher_and_a_float32_student():
    keras.config.set_dtype_policy("mixed_bfloat16")
    teacher = functional(16)
    keras.config.set_dtype_policy("float32")
    # Rounded otherwise in a graph than eagerly.
    check(functional(5), teacher, IMAGE, teacher_sees=IMAGE, student_sees=IMAGE, of=predicted)


def test_inputs_of_open_size_train():
    inputs = keras.Input((None, 4))
    pooled = layers.GlobalAveragePooling1D()(inputs)
    teacher = keras.Model(inputs, layers.Dense(3)(layers.Dense(9, "tanh")(pooled)))
    student = keras.Model(inputs, layers.Dense(3)(pooled))
    x = np.random.default_rng(0).normal(size=(12, 7, 4)).astype("float32")
    check(student, teacher, x, teacher_sees=x, student_sees=x)


@pytest.mark.parametrize(
    ("keys", "right", "x", "text"),
    [
        (["sight"], ["image"], {"image": IMAGE}, r"`x` has no \['sight'\]\. It has \['image'\]"),
        ([1], [0], (IMAGE,), r"`x` has no \[1\]\. It has \[0\]"),
        (["image"], None, IMAGE, r"`x` has no \['image'\]\. It has no keys: it is a single tensor"),
    ],
)
def test_missing_inputs_are_named(keys, right, x, text):
    teacher = kd.Teacher(sequential(16), inputs=right)
    with pytest.raises(ValueError, match=f"`Distiller`: `student_inputs`: {text}"):
        compiled_distiller(sequential(5), teacher, student_inputs=keys).fit(x, Y, verbose=0)
    teacher = kd.Teacher(sequential(16), inputs=keys)
    with pytest.raises(ValueError, match=f"`Teacher`: `inputs`: {text}"):
        compiled_distiller(sequential(5), teacher, student_inputs=right).fit(x, Y, verbose=0)


@pytest.mark.parametrize("keys", [[], [1.5], [None]])
def test_keys_must_be_keys_or_positions(keys):
    with pytest.raises(ValueError, match=r"`student_inputs` must be keys of a dict `x`, or positions of a tuple"):
        kd.Distiller(sequential(5), sequential(16), student_inputs=keys)

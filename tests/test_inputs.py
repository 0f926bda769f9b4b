import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.inputs import InputSelection

IMAGE, SOUND, TEXT = np.zeros((2, 3)), np.ones((2, 4)), np.full((2, 5), 2.0)
KEYED = {"image": IMAGE, "sound": SOUND, "text": TEXT}


class Subclassed(keras.Model):
    def call(self, x):
        return x


def functional(structure):
    inputs = {"image": keras.Input((3,), name="image"), "sound": keras.Input((4,), name="sound")}
    picked = keras.tree.map_structure(inputs.get, structure)
    return keras.Model(picked, layers.Concatenate()([layers.Flatten()(x) for x in keras.tree.flatten(picked) * 2]))


def select(keys, x, model):
    return InputSelection(keys, "`Teacher`: `inputs`")(x, model)


def same(selected, expected):
    keras.tree.assert_same_structure(selected, expected)
    return all(a is b for a, b in zip(keras.tree.flatten(selected), keras.tree.flatten(expected), strict=True))


@pytest.mark.parametrize("x", [IMAGE, KEYED, [IMAGE, SOUND]])
def test_without_keys_x_passes_as_it_is(x):
    assert select(None, x, Subclassed()) is x


def sequential():
    return keras.Sequential([keras.Input((3,)), layers.Dense(2)])


@pytest.mark.parametrize("make", [sequential, lambda: functional("image")])
def test_without_keys_a_model_of_one_tensor_takes_what_a_dict_of_one_holds(make):
    model = make()
    selected = select(None, {"picture": IMAGE}, model)
    assert selected is IMAGE
    np.testing.assert_array_equal(model(selected), model(IMAGE))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: functional({"image": "image"}), {"image": IMAGE}),
        (lambda: functional(["image"]), {"image": IMAGE}),
        (lambda: functional("image"), KEYED),
        (lambda: functional("image"), [IMAGE]),
        (lambda: keras.Sequential([layers.Dense(2)]), {"image": IMAGE}),
        (Subclassed, {"image": IMAGE}),
    ],
    ids=["dict model", "list model", "several keys", "a list", "not built", "subclassed"],
)
def test_without_keys_all_else_passes_as_it_is(make, x):
    assert select(None, x, make()) is x


@pytest.mark.parametrize(
    ("keys", "structure", "expected"),
    [
        (["image"], "image", IMAGE),
        ("image", "image", IMAGE),
        (["image"], {"image": "image"}, {"image": IMAGE}),
        (["image"], ["image"], [IMAGE]),
        (["image", "sound"], {"image": "image", "sound": "sound"}, {"image": IMAGE, "sound": SOUND}),
        (["sound", "image"], ["sound", "image"], [SOUND, IMAGE]),
    ],
)
def test_keys_come_in_the_structure_that_the_model_takes(keys, structure, expected):
    assert same(select(keys, KEYED, functional(structure)), expected)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [([0], IMAGE), (2, TEXT), ([2, 0], [TEXT, IMAGE]), ((1, 2), [SOUND, TEXT])],
)
@pytest.mark.parametrize("container", [list, tuple])
def test_positions_of_a_tuple(keys, expected, container):
    assert same(select(keys, container([IMAGE, SOUND, TEXT]), Subclassed()), expected)


def test_a_model_without_known_inputs_takes_one_key_bare_and_several_as_a_dict():
    for model in (Subclassed(), keras.Sequential([layers.Dense(2)])):
        assert same(select(["sound"], KEYED, model), SOUND)
    assert same(select(["sound", "text"], KEYED, Subclassed()), {"sound": SOUND, "text": TEXT})


def test_a_subclassed_model_built_on_a_dict_keeps_getting_one():
    class Keyed(keras.Model):
        def build(self, input_shape):
            pass

        def call(self, x):
            return x["image"]

    model = Keyed()
    model({"image": IMAGE})
    assert same(select(["image"], KEYED, model), {"image": IMAGE})


@pytest.mark.parametrize("keys", [[], (), [None], [1.5], 3.5, [["image"]]])
def test_keys_of_no_kind_are_refused(keys):
    with pytest.raises(
        ValueError, match="`Teacher`: `inputs` must be keys of a dict `x`, or positions of a tuple, as in"
    ):
        InputSelection(keys, "`Teacher`: `inputs`")


@pytest.mark.parametrize(
    ("keys", "x", "text"),
    [
        (["depth"], KEYED, "`x` has no ['depth']. It has ['image', 'sound', 'text']. Received: ['depth']."),
        ([0, 5], (IMAGE, SOUND), "`x` has no [5]. It has [0, 1]. Received: [0, 5]."),
        (["image"], IMAGE, "`x` has no ['image']. It has no keys: it is a single tensor. Received: ['image']."),
    ],
)
def test_a_key_that_x_lacks_is_named(keys, x, text):
    with pytest.raises(ValueError, match="`Teacher`: `inputs`: ") as error:
        select(keys, x, Subclassed())
    assert text in str(error.value)

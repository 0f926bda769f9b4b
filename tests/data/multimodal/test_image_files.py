import numpy as np
import pytest
from PIL import Image as Pillow

from keras_kd.data.multimodal import Image
from keras_kd.data.multimodal.files import read_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 3), dtype="uint8")
LUMA = np.array([0.2989, 0.587, 0.114])


def colours(mode):
    """What a Pillow image of `mode` shows, as RGB."""
    return np.asarray(Pillow.fromarray(PIXELS).convert(mode).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1"])
def test_colour_modes_of_png(tmp_path, mode):
    path = str(tmp_path / "a.png")
    Pillow.fromarray(PIXELS).convert(mode).save(path)
    expected = colours(mode) / 255
    np.testing.assert_allclose(read_image(path, Image(6, 5, 3)), expected, atol=1e-6)
    grey = expected[..., :1] if mode in ("L", "LA") else (expected @ LUMA)[..., None]
    np.testing.assert_allclose(read_image(path, Image(6, 5, 1)), grey, atol=2e-4)  # the weights add up to 0.9999


def test_16_bit_grey(tmp_path):
    path = str(tmp_path / "a.png")
    deep = RNG.integers(0, 65536, (6, 5), dtype="uint16")
    Pillow.fromarray(deep).save(path)
    np.testing.assert_allclose(read_image(path, Image(6, 5, 1))[..., 0], deep / 65535, atol=1 / 255)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(tmp_path, mode):
    path = str(tmp_path / "a.jpeg")
    plain = Pillow.new("RGB", (16, 8), (200, 100, 50)).convert(mode)
    plain.save(path, quality=95)
    expected = np.asarray(Pillow.open(path).convert("RGB")) / 255
    np.testing.assert_allclose(read_image(path, Image(8, 16, 3)), expected, atol=0.02)


@pytest.mark.parametrize("suffix", ["bmp", "gif"])
def test_other_formats(tmp_path, suffix):
    path = str(tmp_path / f"a.{suffix}")
    Pillow.new("RGB", (4, 3), (255, 0, 51)).save(path)
    np.testing.assert_allclose(read_image(path, Image(3, 4, 3)), np.full((3, 4, 3), [1, 0, 0.2]), atol=1e-6)


def test_halving_an_image_is_near_what_pillow_does(tmp_path):
    path = str(tmp_path / "a.png")
    smooth = Pillow.fromarray(RNG.integers(0, 256, (4, 4), dtype="uint8")).resize((32, 24), Pillow.Resampling.BICUBIC)
    smooth.save(path)
    expected = np.asarray(smooth.resize((16, 12), Pillow.Resampling.BILINEAR)) / 255
    np.testing.assert_allclose(read_image(path, Image(12, 16, 1))[..., 0], expected, atol=0.01)

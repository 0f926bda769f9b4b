"""What is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from keras_kd import plots


def test_learning_curve_is_the_mean_with_a_band_from_least_to_greatest():
    histories = [{"val_accuracy": [0.2, 0.4]}, {"val_accuracy": [0.4, 0.8]}]
    axes = plots.learning_curves({"alone": histories}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0.3], [2, 0.6]])
    assert to_hex(axes.lines[0].get_color()) == plots.COLORS["alone"]
    band = axes.collections[0].get_datalim(axes.transData)
    assert (band.y0, band.y1) == pytest.approx((0.2, 0.8))


def test_accuracy_stands_against_kilobytes():
    points = [{"name": "student", "bytes": 18_000, "accuracies": [0.9, 0.94]}]
    axes = plots.accuracy_against_size(points).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[18, 0.92]])


def test_bars_are_the_probabilities():
    drawn = plots.figure(4, 3)
    above, below = drawn.subplots(2, 1)
    plots.soft_labels(np.zeros((1, 8, 8, 1)), [3], {"teacher": np.array([[0.25, 0.75]])}, [(above, below)])
    assert [bar.get_height() for bar in below.patches] == [0.25, 0.75]
    assert above.get_title() == "a 3"


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 3, 1), (1, 8, 1, 1)])
def test_each_map_stands_below_its_image_on_its_own_scale(shape):
    images = np.random.default_rng(0).random(shape)
    maps = {"teacher": np.arange(4.0 * shape[0]).reshape(shape[0], 2, 2), "student": np.full((shape[0], 1, 1), 3.0)}
    drawn = plots.feature_maps(images, maps)
    wanted = [*images.reshape(shape[:3]), *maps["teacher"], *maps["student"]]
    for axes, array in zip(drawn.axes, wanted, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), array)
        assert axes.images[0].get_clim() == (0, array.max())
    names = [axes.get_ylabel() for axes in drawn.axes]
    assert [name for name in names if name] == names[:: shape[0]] == ["input", "teacher", "student"]


def test_history_is_read_as_keras_writes_it(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,1.5,2.5\n1,1.25,2.25\n")
    assert plots.read_history(tmp_path / "history.csv") == {"loss": [1.5, 1.25], "val_loss": [2.5, 2.25]}


def test_quality_stands_against_size_and_latency_with_a_legend():
    points = [
        {"name": "int8", "bytes": 4_000, "milliseconds": 0.5, "agreement": 0.9},
        {"name": "teacher", "bytes": 90_000, "milliseconds": 7.0, "agreement": 1.0},
    ]
    drawn = plots.quality_against_costs(points, "agreement")
    sizes, latencies = drawn.axes
    assert [line.get_xydata().tolist() for line in sizes.lines] == [[[4, 0.9]], [[90, 1.0]]]
    assert [line.get_xydata().tolist() for line in latencies.lines] == [[[0.5, 0.9]], [[7, 1.0]]]
    assert [text.get_text() for text in drawn.legends[0].texts] == ["int8", "teacher"]
    assert sizes.get_ylabel() == "agreement"
    assert len({line.get_marker() for line in sizes.lines}) == 2

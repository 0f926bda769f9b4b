"""What people would rather look at than read. Matplotlib is loaded when something is drawn."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_kd.wording import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"teacher": "#444444", "alone": "#d1702a", "distilled": "#1f6fb4"}
_OTHER = "#1f6fb4"


def figure(width: float, height: float) -> "Figure":
    """An empty figure that needs no screen, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def read_history(path: str | PathLike) -> dict[str, list[float]]:
    """Reads what `keras.callbacks.CSVLogger` wrote: one list by metric.

    Raises:
        ValueError: If it is no such table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {}) if name != "epoch"}
    except (csv.Error, TypeError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"`read_history`: {path} is no table of numbers by epoch ({reason}). Take it away.") from error


def learning_curves(
    runs: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "val_accuracy", axes: "Axes | None" = None
) -> "Figure":
    """Draws a metric by epoch.

    Args:
        runs: Name of a run to its history, as `fit(...).history`; or to a list of histories, one for each seed, which
            are drawn as their mean with the band between least and greatest.
        metric: Key of the histories. Defaults to `"val_accuracy"`.
        axes: Where to draw. Defaults to a new figure.

    Returns:
        The figure.

    Example:
        >>> learning_curves({"student": {"val_accuracy": [0.5, 0.75]}}).axes[0].get_ylabel()
        'validation accuracy'
    """
    if axes is None:
        axes = figure(5, 3.5).subplots()
    for name, histories in runs.items():
        histories = [histories] if isinstance(histories, Mapping) else histories
        curves = np.array([history[metric] for history in histories])
        epochs = np.arange(1, curves.shape[1] + 1)
        color = COLORS.get(name, _OTHER)
        axes.plot(epochs, curves.mean(0), color=color, label=name)
        if len(curves) > 1:
            axes.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel=metric.replace("val_", "validation ").replace("_", " "))
    axes.legend(frameon=False)
    _plain(axes)
    return axes.figure


def accuracy_against_size(points: Sequence[Mapping[str, Any]], axes: "Axes | None" = None) -> "Figure":
    """Draws accuracy against bytes on disk.

    Args:
        points: Mappings with `name`, `bytes`, and `accuracies`, one for each seed.
        axes: Where to draw. Defaults to a new figure.

    Returns:
        The figure.
    """
    if axes is None:
        axes = figure(5, 3.5).subplots()
    for point in points:
        accuracies = np.asarray(point["accuracies"])
        color = COLORS.get(point["name"], _OTHER)
        low, high = accuracies.mean() - accuracies.min(), accuracies.max() - accuracies.mean()
        kilobytes = point["bytes"] / 1000
        axes.errorbar(kilobytes, accuracies.mean(), [[low], [high]], fmt="o", color=color, capsize=4, markersize=8)
        axes.annotate(
            f"{point['name']}\n{accuracies.mean():.1%}",
            (kilobytes, accuracies.mean()),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=color,
        )
    _cost_axis(axes, "TFLite file, kB", "test accuracy")
    return axes.figure


def quality_against_costs(points: Sequence[Mapping[str, Any]], quality: str = "accuracy") -> "Figure":
    """Draws what files are worth against their bytes, and against their latency beside it.

    Args:
        points: Mappings with `name`, `bytes`, `milliseconds` and the quality, a share.
        quality: Key of the quality. Defaults to `"accuracy"`.

    Returns:
        The figure.

    Example:
        >>> drawn = quality_against_costs([{"name": "int8", "bytes": 4000, "milliseconds": 0.5, "accuracy": 0.9}])
        >>> [axes.get_xlabel() for axes in drawn.axes]
        ['TFLite file, kB', 'latency on this host, 1 thread, ms']
    """
    drawn = figure(10, 3.8)
    sizes, latencies = drawn.subplots(1, 2, sharey=True)
    for point, marker in zip(points, itertools.cycle("osD^vP*X")):
        # Forms of one student lie close together, so a legend says which is which.
        style = {"marker": marker, "linestyle": "", "markersize": 9, "alpha": 0.75, "label": point["name"]}
        style |= {"color": COLORS["teacher"]} if point["name"] == "teacher" else {}
        sizes.plot(point["bytes"] / 1000, point[quality], **style)
        latencies.plot(point["milliseconds"], point[quality], **style)
    _cost_axis(sizes, "TFLite file, kB", quality)
    _cost_axis(latencies, "latency on this host, 1 thread, ms", "")
    drawn.legend(*sizes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return drawn


def _cost_axis(axes: "Axes", cost: str, quality: str) -> None:
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", xlabel=cost, ylabel=quality)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.35, y=0.15)
    _plain(axes)


def soft_labels(
    images: Any, labels: Sequence[int], beliefs: Mapping[str, Any], axes: Sequence[tuple["Axes", "Axes"]]
) -> None:
    """Draws images, each above the class probabilities that several models give it.

    Args:
        images: Shape `(n, height, width)` or `(n, height, width, 1)`.
        labels: The true classes.
        beliefs: Name of a model to its probabilities, shape `(n, classes)`.
        axes: For each image, where it and its bars are drawn.
    """
    width = 0.8 / len(beliefs)
    top = 1.15 * max(np.max(probabilities) for probabilities in beliefs.values())
    for index, (above, below) in enumerate(axes):
        above.imshow(np.squeeze(images[index]), cmap="gray_r")
        above.set(xticks=[], yticks=[], title=f"a {labels[index]}")
        for place, (name, probabilities) in enumerate(beliefs.items()):
            classes = np.arange(len(probabilities[index]))
            below.bar(
                classes + (place - (len(beliefs) - 1) / 2) * width,
                probabilities[index],
                width,
                color=COLORS.get(name),
                label=name,
            )
        below.set(xticks=classes, ylim=(0, top))
        below.yaxis.set_visible(index == 0)
        below.tick_params(labelsize=7)
        _plain(below)
    axes[0][1].legend(frameon=False, fontsize=7)


def feature_maps(images: Any, maps: Mapping[str, Any]) -> "Figure":
    """Draws images, and below each what several models make of it.

    Every map is drawn from zero to its own greatest value: where it is strong, and not how strong.

    Args:
        images: Shape `(n, height, width)` or `(n, height, width, 1)`.
        maps: Name of a model to its maps, shape `(n, rows, columns)`, on any grid, `>= 0`.

    Returns:
        The figure, one row for the images and one for each model.

    Example:
        >>> drawn = feature_maps(np.ones((3, 8, 8, 1)), {"teacher": np.ones((3, 8, 8)), "student": np.ones((3, 4, 4))})
        >>> [axes.get_ylabel() for axes in drawn.axes[::3]]
        ['input', 'teacher', 'student']
    """
    rows = {"input": np.squeeze(images, -1) if np.ndim(images) == 4 else images, **maps}
    drawn = figure(1.2 * len(images) + 1.2, 1.2 * len(rows))
    for line, (name, row) in zip(drawn.subplots(len(rows), len(images), squeeze=False), rows.items(), strict=True):
        for axes, shown in zip(line, row, strict=True):
            axes.imshow(shown, cmap="gray_r" if name == "input" else "viridis", vmin=0)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return drawn


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)

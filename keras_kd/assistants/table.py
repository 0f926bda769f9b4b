"""A chain as a table."""

from collections.abc import Sequence

from keras_kd.assistants.records import HopRecord

NOT_SHOWN = ("loss", "student_loss")


def as_table(records: Sequence[HopRecord]) -> str:
    """One line for each model, with a column for each metric of the validation.

    Example:
        >>> results = {"accuracy": 0.5, "agreement": 0.75}
        >>> print(as_table([HopRecord("student", 51, 204, {"loss": [2.0]}, 0, results, 1.25)]))
        model    parameters  kB   accuracy  agreement  seconds
        student          51  0.2    0.5000     0.7500      1.2
    """
    metrics = list(dict.fromkeys(name for record in records for name in record.results if name not in NOT_SHOWN))
    lines = [["model", "parameters", "kB", *metrics, "seconds"]]
    for record in records:
        values = [f"{record.results[name]:.4f}" if name in record.results else "" for name in metrics]
        seconds = f"{record.seconds:.1f}" if record.history else ""
        lines.append([record.name, f"{record.parameters:,}", f"{record.bytes / 1000:.1f}", *values, seconds])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )

"""The rows of a manifest, CSV or JSONL, as they are written."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_kd.wording import shortened

COLUMNS = ("image", "audio", "text", "text_file", "label", "split")


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, its cells by column, and why it cannot be read, if so."""

    line: int
    cells: dict[str, str]
    fault: str | None = None


def rows_of(path: Path) -> Iterator[Row]:
    """Reads the rows of a manifest.

    Args:
        path: a `.csv` or `.jsonl` file.

    Returns:
        Its rows, in order. A cell that is empty or missing is left out.

    Raises:
        ValueError: if there is no such file, its name ends otherwise, or the header of a CSV has an unknown column or
            no label.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    if path.suffix.lower() not in readers or not path.is_file():
        raise ValueError(f"`from_manifest`: expected an existing .csv or .jsonl file. Received: {path}.")
    yield from readers[path.suffix.lower()](path)


def _csv_rows(path: Path) -> Iterator[Row]:
    # Bytes that are not UTF-8 pass as surrogates, so that they spoil one row and not the file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        _check_header(header := _header(reader, path), path)
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, {}, f"{error}. Write it as CSV")
                continue
            if len(values) > len(header):
                fault = f"{len(values)} cells under {len(header)} columns. Put text that holds a comma in double quotes"
                yield Row(line, {}, fault)
            elif values:
                yield _row(line, dict(zip(header, values, strict=False)))


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    try:
        return [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise ValueError(
            f"`from_manifest`: expected the first line of {path} to name its columns. Received: {error}. Write it as "
            "CSV."
        ) from error


def _check_header(header: list[str], path: Path) -> None:
    known = ", ".join(COLUMNS)
    if unknown := [column for column in header if column not in COLUMNS]:
        raise ValueError(
            f"`from_manifest`: expected the columns of {path} to be among {known}. Received: "
            f"{_listed(unknown)}. Rename or remove what is not a modality."
        )
    if "label" not in header or len(set(header)) < len(header):
        raise ValueError(
            f"`from_manifest`: expected the first line of {path} to name its columns, each once and `label` among "
            f"them, of {known}. Received: {shortened(', '.join(header)) or 'an empty line'}."
        )


def _json_rows(path: Path) -> Iterator[Row]:
    for line, content in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not content.strip():
            continue
        try:
            cells = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError:
            yield Row(line, {}, _NOT_UTF8)
            continue
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else error
            yield Row(line, {}, f"it is not JSON ({reason}). Write one object per line")
            continue
        if not isinstance(cells, dict):
            yield Row(line, {}, f"it is JSON but not an object: {shortened(repr(cells))}. Write one object per line")
        elif unknown := [key for key in cells if key not in COLUMNS]:
            yield Row(line, {}, f"unknown {_listed(unknown)}. Use {', '.join(COLUMNS)} only")
        else:
            yield _json_row(line, cells)


def _json_row(line: int, cells: dict[str, object]) -> Row:
    cells = {key: value for key, value in cells.items() if value is not None}
    if isinstance(cells.get("label"), int):
        cells["label"] = str(cells["label"])
    for key, value in cells.items():
        if not isinstance(value, str):
            return Row(line, {}, f"`{key}` is {shortened(repr(value))}. Write a string")
    return _row(line, cells)


def _listed(names: list[str]) -> str:
    return shortened(", ".join(map(repr, names)))


_NOT_UTF8 = "it is not UTF-8. Save the manifest as UTF-8"


def _row(line: int, cells: dict[str, str]) -> Row:
    cells = {key: value.strip() for key, value in cells.items() if value.strip()}
    try:
        "".join(cells.values()).encode("utf-8")
    except UnicodeEncodeError:
        return Row(line, cells, _NOT_UTF8)
    return Row(line, cells)

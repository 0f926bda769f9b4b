"""What of a cache is there already, and whether it is whole."""

import json
import math
from pathlib import Path

import numpy as np

from keras_kd.cache import store
from keras_kd.cache.fingerprints import digest
from keras_kd.cache.layout import SEED
from keras_kd.cache.manifest import Manifest, Plan, differences


def survey(folder: Path, plan: Plan, examples: int | None = None) -> Manifest | list[int]:
    """Finds the whole shards of a plan in a folder, and deletes damaged ones.

    Args:
        folder: The folder of the cache.
        plan: What is to be written there.
        examples: How many examples there are to be, where that is known.

    Returns:
        The manifest where all is there, else the numbers of the whole shards.

    Raises:
        ValueError: If the folder holds another cache.
    """
    manifest = _manifest(folder, plan, examples)
    checksums = {} if manifest is None else {part["file"]: part["sha256"] for part in manifest.contents["shards"]}
    whole = []
    for path in sorted(folder.glob("signals-*.tfrecord")):
        shard = int(path.stem.removeprefix("signals-"))
        if checksums.get(path.name) == store.sha256(path) or (not checksums and _is_whole(path, shard, plan)):
            whole.append(shard)
        else:
            print(f"{path} is damaged, and is written anew.")
            path.unlink()
    if manifest is not None and len(whole) == len(checksums):
        return manifest
    return whole


def _manifest(folder: Path, plan: Plan, examples: int | None) -> Manifest | None:
    file = folder / store.MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = Manifest(folder, json.loads(file.read_text(encoding="utf-8")))
        count = manifest.examples
    except (ValueError, KeyError):
        return None  # damaged: what matters stands in the shards, too
    _refuse_another(folder, differences(manifest.plan.facts, plan.facts))
    if examples not in (None, count):
        _refuse_another(folder, f"another data set: {count} examples, not {examples}")
    return manifest


def _is_whole(path: Path, shard: int, plan: Plan) -> bool:
    header = store.header_of(path)
    if header is None:
        return False
    _refuse_another(path.parent, differences(header, plan.facts))
    geometry = plan.geometry
    examples = geometry.examples(path.stat().st_size)
    records = 1 + math.ceil(examples / geometry.block) * (geometry.views + geometry.keyed)
    return header["shard"] == f"{shard:05}" and len(list(store.records_of(path))) == records


def _refuse_another(folder: Path, difference: str) -> None:
    if difference:
        raise ValueError(f"`cache_teacher`: {folder} holds a cache of {difference}. Choose another folder.")


def finish(folder: Path, plan: Plan, examples: int) -> Manifest | None:
    """Writes the manifest, where all shards are there.

    Args:
        folder: The folder of the cache.
        plan: What the shards' headers say.
        examples: How many examples the source has, as far as this run has seen.

    Raises:
        ValueError: If the shards do not fit together, or two examples have one id.
    """
    geometry = plan.geometry
    sizes = {path: geometry.examples(path.stat().st_size) for path in sorted(folder.glob("signals-*.tfrecord"))}
    examples = max(examples, sum(sizes.values()))
    shards = math.ceil(examples / geometry.shard)
    missing = [name for name in map(store.shard_name, range(shards)) if folder / name not in sizes]
    if missing:
        print(f"{folder}: {len(missing)} of {shards} shards are still to come: {', '.join(missing[:3])} ...")
        return None
    for index, (path, size) in enumerate(sizes.items()):
        if size != min(geometry.shard, examples - index * geometry.shard):
            raise ValueError(
                f"`cache_teacher`: {path} was written for another data set: it has {size} examples. Delete {folder} "
                "and begin anew."
            )
    reader = store.RowReader(folder, geometry, plan.layout.row, examples)
    if geometry.keyed and len(np.unique(reader.keys())) < examples:
        raise ValueError("`cache_teacher`: every `tfds_id` must be unique. Two examples have the same.")
    starts = range(0, examples, geometry.shard)
    contents = {
        **plan.facts,
        "examples": examples,
        "bytes_per_example": plan.bytes_per_example,
        "data_fingerprint": digest(*(_seeds(reader, start, examples, geometry.shard) for start in starts)),
        "shards": [{"file": path.name, "examples": size, "sha256": store.sha256(path)} for path, size in sizes.items()],
    }
    manifest = Manifest(folder, contents)
    manifest.write()
    for leftover in (*folder.glob("signals-*.partial"), *folder.glob("signals-*.fresh")):
        leftover.unlink()
    return manifest


def _seeds(reader: store.RowReader, start: int, examples: int, shard: int) -> np.ndarray:
    """The seeds of a shard's first views, which follow from its examples."""
    return reader.rows(np.arange(start, min(start + shard, examples)), view=0)[SEED]

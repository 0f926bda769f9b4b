"""What of a cache is there already, and whether it is whole."""

import json
import math
from pathlib import Path

import numpy as np

from keras_kd.cache import store
from keras_kd.cache.fingerprints import digest
from keras_kd.cache.layout import SEED
from keras_kd.cache.manifest import Manifest, Plan, differences, first_of
from keras_kd.cache.row_reader import RowReader
from keras_kd.cache.soundness import DAMAGE


def survey(folder: Path, plan: Plan, examples: int | None = None) -> Manifest | list[int]:
    """Finds the whole shards of a plan in a folder, and deletes damaged ones.

    It reads every byte, shard by shard: two seconds for each gigabyte where there is a manifest, four where records are
    checked one by one.

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
    checksums = {} if manifest is None else manifest.checksums
    for path in store.shards_in(folder, "partial").values():
        _refuse_another(folder, differences(store.header_of(path) or plan.facts, plan.facts))
    whole = []
    for shard, path in store.shards_in(folder).items():
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
        count, facts = manifest.examples, manifest.plan.facts
    except DAMAGE:
        return None  # what matters stands in the shards, too
    _refuse_another(folder, differences(facts, plan.facts))
    try:
        manifest.check_contents()
    except DAMAGE:
        return None
    if examples not in (None, count):
        _refuse_another(folder, f"another data set: {count} examples, not {examples}")
    return manifest


def _is_whole(path: Path, shard: int, plan: Plan) -> bool:
    header = store.header_of(path)
    if header is None:
        return False
    _refuse_another(path.parent, differences(header, plan.facts))
    geometry = plan.geometry
    size = path.stat().st_size
    examples = geometry.examples(size)
    if header.get("shard") != f"{shard:05}" or geometry.file(examples) != size:
        return False
    records = 1 + math.ceil(examples / geometry.block) * (geometry.views + geometry.keyed)
    return sum(1 for _ in store.records_of(path)) == records


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
    sizes = {path: geometry.examples(path.stat().st_size) for path in store.shards_in(folder).values()}
    examples = max(examples, sum(sizes.values()))
    shards = math.ceil(examples / geometry.shard)
    missing = [name for name in map(store.shard_name, range(shards)) if folder / name not in sizes]
    if missing:
        print(f"{folder}: {len(missing)} of {shards} shards are still to come: {first_of(missing)}.")
        return None
    for index, (path, size) in enumerate(sizes.items()):
        if size != min(geometry.shard, examples - index * geometry.shard):
            raise ValueError(
                f"`cache_teacher`: {path} was written for another data set: it has {size} examples. Delete {folder} "
                "and begin anew."
            )
    reader = RowReader(folder, geometry, plan.layout.row, examples)
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
    store.sweep(folder)
    return manifest


def _seeds(reader: RowReader, start: int, examples: int, shard: int) -> np.ndarray:
    """The seeds of a shard's first views, which follow from its examples."""
    return reader.rows(np.arange(start, min(start + shard, examples)), view=0)[SEED]

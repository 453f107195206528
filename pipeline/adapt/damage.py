"""What an archive's pictures have suffered, found by looking at them, and given to clean ones as training material.

A picture that was compressed or is noisy is no ground truth: a network would learn to draw blocks. Reduced to half its
side or less it is clean, and is given the damage of another picture of the archive, drawn at random.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from pipeline.core.chain import CHAIN_COLUMNS, Chain
from pipeline.upscale.estimate import LEAST_NOISE, Found

CLEAN_QUALITY = 92
"""JPEG quality from which a picture is its own ground truth."""
CLEAN_NOISE = 2.5
"""Sigma, grey levels, up to which it is."""
_QUALITIES, _SIGMAS = 10, 2
"""Width of the histograms' bins."""

Damage = dict[str, dict[str, int]]
"""Pictures by `jpeg` (quality), `subsampling` and `noise` (grey levels), and in `clean` those that have neither."""


def chain_of(found: Found) -> Chain:
    """What a generator's input suffers that is to look like a picture of which this was found."""
    quality = found.jpeg if found.blocks is None else found.blocks
    if quality is not None:
        subsampling = found.subsampling if found.subsampling in ("4:2:0", "4:2:2", "4:4:4") else None
        return Chain(jpeg=max(1, round(quality)), subsampling=subsampling)  # type: ignore[arg-type]
    return Chain(noise=round(found.noise, 3)) if found.noise >= LEAST_NOISE else Chain()


def is_damaged(chain: Chain) -> bool:
    """True if a picture with this damage cannot be a ground truth as large as it is."""
    return (chain.noise or 0) > CLEAN_NOISE or (chain.jpeg is not None and chain.jpeg < CLEAN_QUALITY)


def count(chains: Iterable[Chain]) -> Damage:
    """Histograms of what pictures have suffered; a bin is named by its first and last value."""
    histograms: dict[str, Counter[str]] = {name: Counter() for name in ("clean", "jpeg", "subsampling", "noise")}
    for chain in chains:
        if chain.jpeg is not None:
            first = min(chain.jpeg, 99) // _QUALITIES * _QUALITIES
            histograms["jpeg"][f"{first}-{first + _QUALITIES - 1 + (first == 90)}"] += 1
            histograms["subsampling"][chain.subsampling or "unknown"] += 1
        if chain.noise is not None:
            low = int(chain.noise) // _SIGMAS * _SIGMAS
            histograms["noise"][f"{low}-{low + _SIGMAS}"] += 1
        if chain == Chain():
            histograms["clean"]["pictures"] += 1
    return {name: dict(sorted(counts.items())) for name, counts in histograms.items() if counts}


def with_damage(batches: Iterable[pa.RecordBatch], chains: Sequence[Chain], seed: int) -> Iterator[pa.RecordBatch]:
    """Give every row of a manifest the chain of one of an archive's pictures, by its id and the seed alone.

    Args:
        batches: PAIRS rows without chains.
        chains: of the archive's pictures.
        seed: of the draws.

    Yields:
        The batches with their chains.
    """
    for batch in batches:
        rows = [chains[_draw(f"{seed}:{pair}", len(chains))] for pair in batch["pair_id"].to_pylist()]
        table = batch.to_pydict() | {name: [getattr(row, name) for row in rows] for name in CHAIN_COLUMNS}
        arrays = [pa.array(table[field.name], field.type) for field in batch.schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _draw(key: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") % count

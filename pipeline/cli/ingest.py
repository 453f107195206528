"""`facesr ingest`: archives to shards of checked, split faces, outside of DVC by the same library call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, our_json, our_shards, our_table, refuse_to_replace
from pipeline.runtime.console import console


def ingest(
    sources: Annotated[list[str], typer.Argument(help="Folder, archive, Parquet, pattern or URI; several at once")],
    out: Annotated[Path, typer.Option(help="Folder for faces/*.parquet, rejected.parquet and ingest.json")],
    train: Annotated[str, typer.Option(help="Faces for training: a number, or `rest`")] = "",
    valid: Annotated[str, typer.Option(help="Faces for validation: a number, or `rest`")] = "",
    test: Annotated[str, typer.Option(help="Faces for testing: a number, or `rest`")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the split")] = 1,
    partition: Annotated[Path | None, typer.Option(help="Split as CelebA's list_eval_partition.txt says")] = None,
    column: Annotated[str, typer.Option(help="Split as this column of a Parquet source says")] = "",
    train_list: Annotated[Path | None, typer.Option(help="Text file of ids or names for training")] = None,
    valid_list: Annotated[Path | None, typer.Option(help="Text file of ids or names for validation")] = None,
    test_list: Annotated[Path | None, typer.Option(help="Text file of ids or names for testing")] = None,
    identities: Annotated[
        Path | None, typer.Option(help="CelebA's identity_CelebA.txt: nobody is in two splits")
    ] = None,
    person_column: Annotated[str, typer.Option(help="Column of a Parquet source that says who is shown")] = "",
    mapping: Annotated[
        Path | None, typer.Option(help="CelebA-HQ-to-CelebA-mapping.txt, for --partition and --identities")
    ] = None,
    size: Annotated[int, typer.Option(min=64, help="Side of an original, pixels")] = 1024,
    min_size: Annotated[int, typer.Option(min=64, help="Smaller faces are rejected, pixels")] = 256,
    larger: Annotated[str, typer.Option(help="Faces larger than --size: reduce or reject")] = "reduce",
    not_square: Annotated[str, typer.Option(help="Pictures that are not square: reject or crop")] = "reject",
    align: Annotated[str, typer.Option(help="Cut faces out of portraits: none, celebahq or ffhq")] = "none",
    several: Annotated[str, typer.Option(help="Portraits of several faces: reject, largest or each")] = "reject",
    detector: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, for --align")] = None,
    near_duplicates: Annotated[
        int,
        typer.Option(min=-1, max=128, help="Bits of 256 in which near-duplicates differ at most; -1: not looked for"),
    ] = 16,
    max_failed: Annotated[int | None, typer.Option(min=0, help="Fail where more pictures are rejected")] = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a shard, megabytes")] = 256,
    workers: Annotated[int | None, typer.Option(min=1, help="One per core by default; 1 runs without Ray")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; OUT must lie on a disk that its nodes share")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what OUT holds under the names of results")
    ] = False,
) -> None:
    """Check, split and store faces from archives; what cannot be used is named in rejected.parquet.

    Without any split option all faces are for training. Run again after an interruption, it goes on where it was.
    Exit 0: done, 1: not enough faces, too many rejected, or unreadable; 2: usage.
    """
    from pipeline.core.schema import FACES, REJECTED
    from pipeline.ingest import run
    from pipeline.ingest.known import KNOWN_FACES
    from pipeline.params.ingest import Ingest
    from pipeline.params.read import ParamsError, validated

    record = our_json("splits", "usable", "pixels_sha256")
    read = [*sources, partition, train_list, valid_list, test_list, identities, mapping, detector]
    for name, ours in {
        "faces": our_shards(FACES),
        "rejected.parquet": our_table(REJECTED),
        "known.parquet": our_table(KNOWN_FACES),
        "ingest.json": record,
    }.items():
        refuse_to_replace(out / name, ours, read, overwrite, "--out")
    if (out / "ingest.json").exists() and not overwrite:
        raise fail(f"{out} holds faces already; name another --out, or --overwrite to add what is new")
    counts = _given(train=train, valid=valid, test=test)
    ways: dict[str, Mapping[str, object]] = {
        "seed": {split: _count(split, text) for split, text in counts.items()},
        "celeba": _given(partition=partition, mapping=partition and mapping),
        "column": _given(column=column),
        "list": _given(train=train_list, valid=valid_list, test=test_list),
    }
    named = [{"by": by, **way} for by, way in ways.items() if way]
    if len(named) > 1:
        raise fail("only one of: counts (--train …), --partition, --column, lists (--train-list …)")
    splits = named[0] if named else {"by": "seed", "train": "rest"}
    persons = _given(identities=identities, mapping=identities and mapping, column=person_column)
    values = {
        "sources": [
            {"kind": "archive", "path": source, "splits": splits, "persons": persons or None} for source in sources
        ],
        "size": size,
        "min_size": min_size,
        "larger": larger,
        "not_square": not_square,
        "align": _given(recipe=align, several=several, detector=detector),
        "near_duplicates": near_duplicates if near_duplicates >= 0 else None,
        "seed": seed,
        "shard_mb": shard_mb,
        "max_failed": max_failed,
        "workers": workers,
        "address": address,
    }
    try:
        settings = validated(Ingest, values, "facesr ingest")
    except ParamsError as error:
        raise fail(str(error)) from error
    done = run.ingest(settings, out, out.absolute().with_name(f".{out.name}.facesr"))
    console.print(run.summary_text(done), markup=False)


def _count(split: str, text: str) -> int | str:
    if text == "rest":
        return text
    if not text.isdecimal():
        raise fail(f"--{split} {text}: a number, or `rest`")
    return int(text)


def _given(**values: Path | str | None) -> dict[str, str]:
    """What was given, paths as text."""
    return {name: str(value) for name, value in values.items() if value}

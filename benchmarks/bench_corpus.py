"""`facesr upscale` on a folder of files that broke other decoders: what becomes of each, how long, in how much memory.

python benchmarks/bench_corpus.py FOLDER [--workers 2] [--model tiny]

Prints how many files ended how, by reason, the ten that took longest, and peak memory (PSS of all processes).

| promise |
| --- |
| the command ends by itself with 0 or 1, without a traceback |
| every file below FOLDER that it lists has a row, with a reason where there is no result |
| no file below FOLDER has changed |

Exit 1 where a promise is broken. Without FOLDER, a few dozen damaged files are made.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from upscale_common import Faces, Promises, folder, make_generator, rows_of, run
from upscale_damaged import write_damaged

from pipeline.core.files import file_hash

SLOWEST = 10
EXAMPLES = 2


def hashes(root: Path) -> dict[str, str]:
    """Files below a folder and their sha256."""
    return {path.relative_to(root).as_posix(): file_hash(path) for path in sorted(root.rglob("*")) if path.is_file()}


def kind(reason: str) -> str:
    """A reason without its particulars, so that alike ones are counted together."""
    return re.sub(r"\d+", "N", reason.split(" (")[0])


def report(rows: list[dict]) -> None:
    """Print counts by reason, with examples, and the slowest files."""
    print(", ".join(f"{count} {status}" for status, count in Counter(row["status"] for row in rows).most_common()))
    for column in ("error", "note"):
        reasons = Counter(kind(row[column]) for row in rows if row[column])
        for reason, count in reasons.most_common():
            names = [row["name"] for row in rows if row[column] and kind(row[column]) == reason]
            print(f"{count:6} {column}: {reason}  ({', '.join(names[:EXAMPLES])})")
    print(f"slowest {SLOWEST}:")
    for row in sorted(rows, key=lambda row: -(row["seconds"] or 0))[:SLOWEST]:
        size = f"{row['input_width']}x{row['input_height']}" if row["input_width"] else "-"
        print(f"{row['seconds'] or 0:8.2f} s  {size:>11}  {row['status']:7} {row['name']}")


def main() -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", help="folder of files; never written to")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="tiny", help="weights file; tiny: a small generator of random weights")
    options = parser.parse_args()
    promises = Promises()
    with folder(None) as scratch:
        corpus = options.corpus
        if corpus is None:
            corpus = scratch / "corpus.zip"
            write_damaged(corpus, Faces(), 60)
        before = hashes(corpus) if corpus.is_dir() else {corpus.name: file_hash(corpus)}
        model = make_generator(scratch / "tiny.safetensors") if options.model == "tiny" else Path(options.model)
        out = scratch / "out"
        done = run(corpus, out, "--model", model, "--workers", options.workers, memory=True)
        promises.keep(done.code in (0, 1), f"exit {done.code}: {done.said}")
        promises.keep("Traceback" not in done.said, "no traceback")
        promises.keep((out / "manifest.parquet").exists(), "there is a manifest")
        if (out / "manifest.parquet").exists():
            rows = rows_of(out)
            report(rows)
            silent = [row["name"] for row in rows if row["status"] != "ok" and not row["error"]]
            promises.keep(not silent, f"{len(rows)} rows, each without a result has a reason {' '.join(silent[:3])}")
        after = hashes(corpus) if corpus.is_dir() else {corpus.name: file_hash(corpus)}
        promises.keep(before == after, f"{len(before)} files of the corpus are as they were")
        print(f"peak memory {done.peak / 1e9:.2f} GB, {done.done - done.started:.0f} s")
    promises.end()


if __name__ == "__main__":
    main()

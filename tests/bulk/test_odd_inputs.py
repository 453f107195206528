"""`facesr upscale` on archives whose names, members and columns are odd: a row each, nothing outside OUTPUT."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import tar_of, zip_of
from support.upscaling import encoded, make_models, manifest, pictures, said, upscale

PNG = encoded(0, width=16, height=16)
ODD = [
    b".",
    b"/",
    b"",
    b"..",
    b"a/..",
    b"../up.png",
    b"/abs.png",
    b"a\\b.png",
    b".facesr/x.png",
    b"n" * 5000,
    b"\0.png",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_odd_names_in_an_archive_end_no_run(kind: str, model: Path, tmp_path: Path) -> None:
    write = zip_of if kind == "zip" else tar_of
    path = write(tmp_path / f"in.{kind}", [*((name, PNG) for name in ODD), (b"good.png", PNG), (b"good.xmp", b"?")])
    (tmp_path / "elsewhere").write_bytes(b"not ours")
    done = upscale(path, tmp_path / "out", "--model", model, "--workers", 1, code=1)
    rows = manifest(tmp_path / "out")
    assert "1 other file(s) beside the pictures passed over" in said(done)
    assert rows["good.png"]["status"] == "ok"
    assert {row["error"] for row in rows.values() if row["status"] != "ok"} >= {"its path points outside the archive"}
    assert set(pictures(tmp_path / "out")) == {row["file"] for row in rows.values() if row["status"] == "ok"}
    assert {path.name for path in tmp_path.iterdir()} == {f"in.{kind}", "out", "elsewhere"}


def test_zip_names_and_parquet_columns_are_read_as_asked_for(model: Path, tmp_path: Path) -> None:
    names = zip_of(tmp_path / "in.zip", [("表/ソ.png".encode("cp932"), PNG)])
    upscale(names, tmp_path / "a", "--model", model, "--workers", 1, "--zip-encoding", "cp932")
    assert set(pictures(tmp_path / "a")) == {"表/ソ.png"}
    done = upscale(names, tmp_path / "b", "--model", model, "--zip-encoding", "klingon", code=2)
    assert "--zip-encoding klingon: no encoding of text" in said(done)
    table = pa.table({"one": [PNG], "two": [encoded(1, width=24, height=24)], "id": ["/data/x.png"]})
    pq.write_table(table, tmp_path / "in.parquet")
    upscale(tmp_path / "in.parquet", tmp_path / "c", "--model", model, "--workers", 1, "--column", "two")
    assert manifest(tmp_path / "c")["x.png"]["width"] == 96
    done = upscale(tmp_path / "in.parquet", tmp_path / "d", "--model", model, "--column", "three", code=2)
    assert "no column 'three'; there are: one, two, id" in said(done)

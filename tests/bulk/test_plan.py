"""Names of results: one for each entry, inside OUTPUT, the same on every disk."""

import unicodedata
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.archives import as_tar, as_zip
from support.upscaling import encoded, make_models, manifest_rows, upscale

from pipeline.bulk.plan import UNIT_BYTES, Item, items_of, units_of
from pipeline.bulk.settings import Settings
from pipeline.sources.base import Entry
from pipeline.storage.path import StoragePath


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def targets(*names: str, **settings: str) -> list[str]:
    return [
        item.target for item in items_of([Entry(name, index) for index, name in enumerate(names)], Settings(**settings))
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "a.jpg"], ["a.png", "a.jpg.png"]),
        (["x.jpg", "./x.jpg"], ["x.png", "x-2.png"]),
        (["a//b.jpg", "a/b.jpg"], ["a/b.png", "a/b-2.png"]),
        (["A.png", "a.png"], ["A.png", "a-2.png"]),
        (["A.png", "a.jpg"], ["A.png", "a.jpg.png"]),
        (["caf\u00e9.png", "cafe\u0301.png"], ["caf\u00e9.png", "cafe\u0301-2.png"]),
        (["a.png", "a.png", "a.png"], ["a.png", "a-2.png", "a-3.png"]),
        (["a.png/b.png", "a.png"], ["a.png/b.png", "a-2.png"]),
        (["a.png", "a.png/b.png"], ["a-2.png", "a.png/b.png"]),
        ([".facesr/x.png", ".FACESR/y.png"], ["_.facesr/x.png", "_.FACESR/y.png"]),
        (["manifest.parquet", "manifest.csv"], ["manifest.parquet.png", "manifest.csv.png"]),
        ([".", "/", "", ".."], ["unnamed.png", "unnamed-2.png", "unnamed-3.png", "unnamed-4.png"]),
        (["/etc/x.png", "../../y.png"], ["etc/x.png", "y.png"]),
    ],
)
def test_two_entries_that_are_one_path_get_two_names(names: list[str], expected: list[str]) -> None:
    assert targets(*names) == expected


@given(st.lists(st.integers(0, 2 * UNIT_BYTES) | st.integers(0, 1000), max_size=200) | st.just([1] * 1000))
def test_units_hold_every_item_once_in_order_within_bounds_and_get_smaller_towards_the_end(sizes: list[int]) -> None:
    items = [Item(f"{index}.png", index, "", f"{index}.png", "", size) for index, size in enumerate(sizes)]
    units = units_of(items, StoragePath.of("parts"))
    assert [item for unit in units for item in unit.items] == items
    assert len({unit.part for unit in units}) == len(units)
    left = len(items)
    for unit in units:
        assert len(unit.items) <= max(1, min(32, left // 16))
        assert len(unit.items) == 1 or sum(item.size for item in unit.items) <= UNIT_BYTES
        left -= len(unit.items)
    if sizes == [1] * 1000:
        assert [len(unit.items) for unit in units[:16]] == [32] * 16
        assert [len(unit.items) for unit in units[-16:]] == [1] * 16


NAMES = st.lists(
    st.text(st.sampled_from("aA./\\-2e\u00e9\u0301~\U0001f600") | st.characters(), max_size=12)
    | st.sampled_from(["a.png", "A.PNG", "a.jpg", "a/b.png", "a-2.png", ".facesr/a.png", "a.png/b"]),
    max_size=12,
)


@given(NAMES, st.sampled_from(["png", "same", "jpeg"]))
def test_whatever_entries_are_called_results_have_names_of_their_own_inside_output(names: list[str], kind: str) -> None:
    found = targets(*names, format=kind)
    assert len(found) == len(names)
    folded = {unicodedata.normalize("NFC", name).casefold() for name in found}
    assert len(folded) == len(found), "no two are one file, on any disk"
    for name in found:
        parts = name.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert parts[0].casefold() != ".facesr"
        assert not any(other.casefold().startswith(f"{name}/".casefold()) for other in found)
    assert found == targets(*names, format=kind)


@pytest.mark.parametrize("output", ["out", "out.zip"])
def test_entries_that_share_a_path_are_all_done(output: str, model: Path, tmp_path: Path) -> None:
    for source in (
        as_tar(tmp_path / "x.tar", {"./x.png": encoded(1), "x.png": encoded(2)}),
        as_zip(tmp_path / "x.zip", {"a//b.png": encoded(1), "a/b.png": encoded(2), "A/B.png": encoded(3)}),
    ):
        out = tmp_path / f"{Path(source).suffix[1:]}-{output}"
        upscale(source, out, "--model", model, "--workers", 1)
        rows = manifest_rows(out)
        assert {row["status"] for row in rows} == {"ok"}
        assert len({row["file"].casefold() for row in rows}) == len(rows) > 1
        assert len({row["id"] for row in rows}) == len(rows)


def test_rows_named_into_the_work_folder_are_not_lost(model: Path, tmp_path: Path) -> None:
    names = [".facesr/x.png", "manifest.parquet", ".", "/", "", "a.png", "a.png"]
    images = [{"bytes": encoded(index), "path": name} for index, name in enumerate(names)]
    pq.write_table(pa.table({"image": images}), tmp_path / "in.parquet")
    upscale(tmp_path / "in.parquet", tmp_path / "out", "--model", model, "--workers", 1, code=None)
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    assert len(rows) == len(names)
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}
    for row in rows:
        if row["status"] == "ok":
            assert len(files.pop(row["file"])) == row["bytes"]
            assert ".." not in PurePosixPath(row["file"]).parts
        else:
            assert row["error"]
    assert not files

"""The pairs stage draws chains and pairs of use, counts them, shows some, and training takes old manifests as well."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.pictures import face
from support.training import write_inputs

from pipeline.core.chain import CHAIN_COLUMNS, Chain
from pipeline.core.degradation import described
from pipeline.core.scales import SCALE_OF_USE, TRAINED_SCALES
from pipeline.pairs.report import degradations
from pipeline.pairs.run import make_pairs
from pipeline.params.pairs import Pairs
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.config import BatchConfig


def settings(**values: Any) -> Pairs:
    # as params.yaml is read
    return Pairs.model_validate_json(json.dumps({"seed": 1, "draws": 6, "workers": 1, **values}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chains")
    write_inputs(root / "faces", [face(index, 256 if index % 2 else 100) for index in range(10)], "train")
    write_inputs(root / "faces", [face(20, 256)], "valid")
    make_pairs(root / "faces", root, root / "report", settings(chain={}, of_use=4), root / "work")
    return root


def manifest(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "pairs.parquet").to_pylist()


def test_the_statistics_count_every_link_and_its_strength(made: Path) -> None:
    rows = [row for row in manifest(made) if row["split"] == "train"]
    told = json.loads((made / "pairs.json").read_text())
    chains = told["chains"]
    assert told["scales"] == {scale: sum(row["scale"] == scale for row in rows) for scale in TRAINED_SCALES}
    assert told["scales"][SCALE_OF_USE] == 10 * 4
    assert chains["pairs"] == sum(Chain.of_row(row) != Chain() for row in rows) > 0
    assert set(chains["links"]) == set(CHAIN_COLUMNS)
    for name, counted in chains["links"].items():
        values = [row[name] for row in rows if row[name] is not None]
        assert counted["pairs"] == len(values)
        assert counted["share"] == pytest.approx(len(values) / len(rows), abs=1e-6)
        # five standard deviations of a binomial
        chance = counted["asked"]
        assert counted["share"] == pytest.approx(chance, abs=5 * (chance * (1 - chance) / len(rows)) ** 0.5)
        if name in chains["choices"]:
            assert chains["choices"][name] == {value: values.count(value) for value in sorted(set(values))}
        elif values:
            spread = chains["strengths"][name]
            assert (spread["min"], spread["max"]) == (min(values), max(values))
            assert spread["mean"] == pytest.approx(np.mean(values), abs=1e-4)
    reduced = sum(row["scale"] != SCALE_OF_USE for row in rows) / len(rows)
    assert chains["links"]["reduction"]["asked"] == pytest.approx(0.7 * 0.15 * reduced, abs=1e-6)


def test_pairs_at_the_scale_of_use_may_get_a_share_of_their_own(made: Path, tmp_path: Path) -> None:
    chances = {"blur_chance": 1.0, "reduction_chance": 0.0}
    asked = settings(chain={"share": 0.0, "share_of_use": 1.0} | chances, of_use=4)
    summary = make_pairs(made / "faces", tmp_path, tmp_path / "report", asked, tmp_path / "work")
    rows = [row for row in manifest(tmp_path) if row["split"] == "train"]
    assert all((row["blur"] is not None) == (row["scale"] == SCALE_OF_USE) for row in rows)
    at_use = sum(row["scale"] == SCALE_OF_USE for row in rows) / len(rows)
    blur = summary["chains"]["links"]["blur"]
    assert blur["asked"] == pytest.approx(blur["share"], abs=1e-6) == pytest.approx(at_use, abs=1e-6)


def test_the_tables_for_plots_hold_what_was_counted(made: Path) -> None:
    chains = json.loads((made / "pairs.json").read_text())["chains"]
    lines = (made / "report/links.csv").read_text().splitlines()
    assert lines[0] == "label,link,kind,share"
    assert f'"blur, drawn",blur,drawn,{chains["links"]["blur"]["share"]:.6f}' in lines
    assert len(lines) == 1 + 2 * len(CHAIN_COLUMNS)
    for name in ("blur", "noise", "grey", "first_jpeg", "shift", "jpeg"):
        counts = [int(line.split(",")[1]) for line in (made / f"report/links-{name}.csv").read_text().splitlines()[1:]]
        assert sum(counts) == chains["links"][name]["pairs"]


def test_without_chains_there_are_none_in_the_report_and_the_draws_are_as_before(made: Path, tmp_path: Path) -> None:
    summary = make_pairs(made / "faces", tmp_path, tmp_path / "report", settings(), tmp_path / "work")
    assert "chains" not in summary
    assert not list((tmp_path / "report").glob("links-*.csv"))
    assert {line.split(",")[-1] for line in (tmp_path / "report/links.csv").read_text().splitlines()[1:]} == {
        "0.000000"
    }
    plain = {row["pair_id"]: row for row in manifest(tmp_path)}
    assert all(row[name] is None for row in plain.values() for name in CHAIN_COLUMNS)
    for row in manifest(made):
        if row["scale"] != SCALE_OF_USE:
            same = plain[row["pair_id"]]
            assert all(row[name] == same[name] for name in ("scale", "augmentation", "strength", "seed"))


def test_valid_faces_have_no_chain(made: Path) -> None:
    (row,) = [row for row in manifest(made) if row["split"] == "valid"]
    assert Chain.of_row(row) == Chain()


def test_the_sheet_shows_drawn_chains_below_the_augmentations(made: Path) -> None:
    plain = degradations(face(3, 256), Pairs(seed=1))
    rows = [row for row in manifest(made) if row["noise"] is not None][:2]
    sheet = degradations(face(3, 256), Pairs(seed=1), rows)
    assert sheet.shape[0] == plain.shape[0] + 256 + 24 + 8
    assert (sheet[: plain.shape[0] - 8] == plain[:-8]).all()
    top = plain.shape[0]
    cells = [sheet[top : top + 256, 88 + 264 * column :][:, :256] for column in range(2)]
    assert (cells[0] != cells[1]).any()
    with Image.open(made / "report/degradations.png") as picture:
        assert picture.height > plain.shape[0]


def test_a_chain_is_described_in_the_order_of_its_links() -> None:
    assert described(Chain()) == ""
    assert described(Chain(jpeg=75)) == "JPEG 75 4:2:0"
    full = Chain(reduction="box", blur=0.8, noise=4.0, grey=0.5, first_jpeg=60, shift=3, jpeg=75, tables="flat")
    assert described(full) == (
        "reduced by box, blur 0.8 px, noise 4 levels (50% grey), JPEG 60 shifted 3 px, then JPEG 75 4:2:0, flat tables"
    )


def test_a_manifest_from_before_chains_still_trains(made: Path, tmp_path: Path) -> None:
    table = pq.read_table(made / "pairs.parquet")
    old = table.filter([row["scale"] != SCALE_OF_USE for row in table.to_pylist()]).drop_columns(list(CHAIN_COLUMNS))
    pq.write_table(old, tmp_path / "pairs.parquet")
    config = BatchConfig(1, 4, 64, {"16to64": 0.5, "64to256": 0.5})
    data = PairData(made / "inputs/train", tmp_path / "pairs.parquet", "train")
    for step in range(3):
        lows, truths, told = data.batch(config, step)
        assert (lows.shape, truths.shape) == ((4, 16, 16, 3), (4, 64, 64, 3))
        assert len(told) == 4

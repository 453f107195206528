"""What people do with versions: share results, add data, compare, go back."""

from pathlib import Path

from support.dvc_project import Versioned, clone, commit, keep_raw_data, run, stages_run
from support.stages import files_of


def results(folder: Path) -> dict[str, bytes]:
    """All that the stages wrote: relative path -> bytes. Speed is never the same twice, and DVC does not keep it."""
    parts = ("data", "models", "reports")
    found = {f"{part}/{name}": data for part in parts for name, data in files_of(folder / part).items()}
    return {name: data for name, data in found.items() if not name.startswith("reports/speed")}


def test_the_ten_lines_of_the_readme_lead_to_the_same_results_elsewhere_and_no_stage_runs(first: Versioned) -> None:
    assert len(first.here + first.elsewhere) == 10
    elsewhere = first.home / "elsewhere"
    printed = [first.sh(line, first.folder if "clone" in line else elsewhere) for line in first.elsewhere]
    assert not any(map(stages_run, printed))
    assert "up to date" in printed[-1] + printed[-2]
    assert results(elsewhere) == results(first.folder)
    assert run(elsewhere, "git", "status", "--short") == ""


def test_data_are_added_compared_and_taken_back_byte_for_byte(first: Versioned, tmp_path: Path) -> None:
    mine = clone(first.folder, tmp_path / "mine")
    run(mine, "dvc", "pull", "-q")
    before = results(mine)
    keep_raw_data(mine, range(6))
    assert {"ingest", "pairs", "train", "evaluate"} <= set(stages_run(run(mine, "dvc", "repro")))
    commit(mine, "two more faces", tag="v2")
    run(mine, "dvc", "push", "-q")
    rows = [line.split() for line in run(mine, "dvc", "metrics", "diff", "v1", "v2").splitlines()]
    changed = {(row[0], row[1]): row[2:] for row in rows}
    assert changed["reports/dvc/data-train.json", "faces"] == ["2", "4", "2"]
    assert changed["reports/dvc/data-train.json", "pairs"] == ["6", "12", "6"]
    assert ("reports/dvc/valid-fidelity.json", "psnr") in changed
    after = results(mine)
    assert after["models/fidelity.safetensors"] != before["models/fidelity.safetensors"]

    run(mine, "git", "checkout", "-q", "v1")
    run(mine, "dvc", "checkout", "-q")
    assert results(mine) == before
    assert stages_run(run(mine, "dvc", "repro")) == []
    run(mine, "git", "checkout", "-q", "v2")
    run(mine, "dvc", "checkout", "-q")
    assert results(mine) == after


def test_of_a_changed_stage_only_what_it_needs_is_fetched(first: Versioned, tmp_path: Path) -> None:
    mine = clone(first.folder, tmp_path / "mine")
    lazy = ("dvc", "repro", "--pull", "--allow-missing")
    assert stages_run(run(mine, *lazy, "--dry")) == []
    params = mine / "params.yaml"
    params.write_text(params.read_text().replace("sheet_faces: 1", "sheet_faces: 2"))
    assert stages_run(run(mine, *lazy)) == ["evaluate"]
    there = {path.relative_to(mine).as_posix() for path in mine.glob("data/*")}
    assert there == {f"data/{name}" for name in (".gitignore", "forgotten.txt", "raw.dvc")} | {
        f"data/{name}" for name in ("faces", "inputs", "upscaled", "baselines", "ingest.json", "pairs.json")
    }
    assert {path.name for path in mine.glob("data/inputs/*")} == {"train", "test"}
    assert (mine / "reports/dvc/test-256.json").read_bytes() == (
        first.folder / "reports/dvc/test-256.json"
    ).read_bytes()


def test_metrics_fit_a_terminal_of_120_columns(first: Versioned) -> None:
    shown = run(first.folder, "dvc", "metrics", "show").splitlines()
    assert {"faces", "pairs", "psnr", "ssim", "consistency"} < set(shown[0].split())
    assert any(line.startswith("reports/dvc/test-256.json ") for line in shown)
    assert max(map(len, shown)) <= 120

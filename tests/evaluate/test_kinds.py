"""Methods are measured on inputs of named kinds: all from the same one, and apart from clean inputs."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.evaluation import SIDE, FakeInception, build, change, face, measure
from support.training import write_inputs
from support.upscaling import make_models

from pipeline.baselines.methods import BaselineWorker, MethodDescription, plan_baselines
from pipeline.baselines.spandrel_network import load_network
from pipeline.compare.import_results import enlarge_inputs, import_pictures
from pipeline.core.chain import Chain, compress, degrade_to_file, reduce_by
from pipeline.core.degradation import KINDS, MEASURED_SCALES, degraded, draw_kind
from pipeline.core.images import Pixels, decode, encode_png, psnr, resize
from pipeline.core.scales import METHODS as GENERATORS
from pipeline.core.schema import FACES
from pipeline.core.shards import read_rows
from pipeline.evaluate.aggregate import aggregate
from pipeline.evaluate.cases import EvaluationConfig, find_cases
from pipeline.evaluate.worker import EvaluationWorker, plan_units
from pipeline.metrics import perceptual
from pipeline.metrics.fidelity import Reference
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.params.baselines import Baselines
from pipeline.params.upscale import Upscale
from pipeline.runtime.units import RowUnit
from pipeline.upscale.measured_inputs import MeasuredInputs, enlarge_degraded
from pipeline.upscale.stage import UpscaleWorker
from pipeline.upscale.upscaler import Upscaler

OPTIONS: dict[str, Any] = {"tile": 64, "precision": "fp32", "back_projection": 2}
SEED = 5


def lows(count: int) -> list[Pixels]:
    return [resize(face(number), SIDE, SIDE) for number in range(count)]


def scale_of(kind: str) -> str:
    return f"256to1024-{kind}"


def inputs_of(root: Path) -> MeasuredInputs:
    return MeasuredInputs(str(root / "inputs"), str(root / "faces"), SEED)


def upscale(root: Path, kinds: list[str], count: int) -> None:
    """Both generators' results of a kind, where `build` puts those of clean inputs."""
    make_models(root)
    models = {method: str(root / f"{name}.safetensors") for method, name in GENERATORS.items()}
    worker = UpscaleWorker(inputs_of(root), models, OPTIONS)
    for method in models:
        for kind in kinds:
            part = root / "upscaled" / method / scale_of(kind) / "test-00000.parquet"
            done = worker(RowUnit(str(part), 0, count, "test-00000", "test", method, scale_of(kind)))
            assert done == {"images": count, "failed": 0}


def rows_of(root: Path, kind: str, method: str = "facesr") -> list[dict[str, Any]]:
    return list(read_rows(root / "upscaled" / method / scale_of(kind) / "test-00000.parquet"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluationConfig]:
    """Three test faces, two of them on every kind, measured."""
    root = tmp_path_factory.mktemp("kinds")
    config = build(root, {"test": 3})
    measure(config, root / "plain")
    upscale(root, list(KINDS), 2)
    measure(config, root / "parts")
    return root, config


def test_the_kinds_are_those_that_are_typical_in_archives() -> None:
    assert {name: chain.to_dict() for name, chain in KINDS.items()} == {
        **{f"jpeg{quality}": {"jpeg": quality, "subsampling": "4:2:0"} for quality in (90, 75, 50)},
        "noise5": {"noise": 5.0},
        "blur1": {"blur": 1.0},
        "mixed": {"blur": 0.6, "noise": 3.0, "jpeg": 60, "subsampling": "4:2:0"},
        "thumbnail": {"reduction": "box", "jpeg": 85, "subsampling": "4:2:0"},
    }
    assert set(MEASURED_SCALES) >= {"256to1024-jpeg75", "64to256-thumbnail", "256to1024-augmented", "256to1024"}


def test_a_true_picture_is_looked_at_once_for_all_inputs_that_are_made_of_it(
    project: tuple[Path, EvaluationConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, config = project
    looked: list[Pixels] = []

    def look(truth: Pixels) -> Reference:
        looked.append(truth)
        return Reference(truth)

    monkeypatch.setattr("pipeline.evaluate.scorer.Reference", look)
    units = plan_units(config, tmp_path, 16)
    worker = EvaluationWorker(config)
    done = [worker(unit) for unit in units]
    # three faces on clean inputs at both bases, two of them on seven kinds at one
    assert [unit.images for unit in units] == [one["images"] for one in done]
    assert sum(one["images"] for one in done) == 2 * 3 + 2 * len(KINDS)
    assert len(looked) == 2 * 3
    assert aggregate(tmp_path, config) == aggregate(root / "parts", config)


def test_distances_of_clean_results_do_not_know_of_the_kinds(
    project: tuple[Path, EvaluationConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config = project
    monkeypatch.setattr(perceptual, "InceptionFeatures", FakeInception)
    config = replace(config, networks={"inception": "inception.pth"})
    measure(config, tmp_path / "all")
    clean = replace(config, upscaled=str(tmp_path / "clean"))
    for method in config.methods:
        source = Path(config.upscaled) / method / "256to1024"
        shutil.copytree(source, tmp_path / "clean" / method / "256to1024")
    measure(clean, tmp_path / "alone")
    all_scales, alone = (aggregate(tmp_path / parts, config)["test"] for parts in ("all", "alone"))
    distances = {method: score["fid"] for method, score in alone["256to1024"].items()}
    assert all(distances.values())
    assert {method: score["fid"] for method, score in all_scales["256to1024"].items()} == distances
    for kind in KINDS:
        worse = {method: score["fid"] for method, score in all_scales[scale_of(kind)].items()}
        assert all(worse.values())
        assert worse != distances


def test_a_unit_of_faces_with_many_kinds_is_cut_to_twice_as_many_cases(
    project: tuple[Path, EvaluationConfig], tmp_path: Path
) -> None:
    _, config = project
    large = [unit for unit in plan_units(config, tmp_path, 4) if unit.scale == "256to1024"]
    assert [unit.images for unit in large] == [1 + len(KINDS), 1 + len(KINDS), 1]
    assert [(unit.start, unit.stop) for unit in large] == [(0, 1), (1, 2), (2, 3)]


def test_what_an_input_suffers_depends_on_seed_face_and_scale_alone() -> None:
    assert draw_kind("a", "256to1024-noise5", 1) == draw_kind("a", "256to1024-noise5", 1)
    others = [("b", "256to1024-noise5", 1), ("a", "64to256-noise5", 1), ("a", "256to1024-noise5", 2)]
    assert len({draw_kind(*one)["seed"] for one in [("a", "256to1024-noise5", 1), *others]}) == 4


def test_every_method_starts_from_the_same_degraded_input(project: tuple[Path, EvaluationConfig]) -> None:
    root, config = project
    plain = Upscaler.load(root / "fidelity.safetensors", **OPTIONS | {"back_projection": 0})
    for kind, chain in KINDS.items():
        rows = rows_of(root, kind)
        for number, (row, low) in enumerate(zip(rows, lows(2), strict=True)):
            description = json.loads(row["degradation"])
            assert description == draw_kind(row["id"], scale_of(kind), SEED)
            assert Chain(**description["chain"]) == chain
            worse = degraded(low, description, face(number))
            assert (decode(row["image"]["bytes"]) == plain([worse])[0]).all(), kind
            assert (worse != low).any()
        for case in find_cases(config, "test", scale_of(kind), [row["id"] for row in rows]):
            assert case.low is not None
            assert case.chain == chain
            assert (case.results["bicubic"] == resize(case.low, 4 * SIDE, 4 * SIDE)).all()
            assert (case.results["facesr"] == plain([case.low])[0]).all(), kind
    for row, other in zip(rows_of(root, "noise5"), rows_of(root, "noise5", "facesr-realism"), strict=True):
        assert row["degradation"] == other["degradation"]


def test_a_thumbnail_is_the_original_reduced_by_area_and_compressed(project: tuple[Path, EvaluationConfig]) -> None:
    root, config = project
    rows = rows_of(root, "thumbnail")
    for number, case in enumerate(find_cases(config, "test", scale_of("thumbnail"), [row["id"] for row in rows])):
        assert (case.low == compress(reduce_by(face(number), "box"), 85, "4:2:0")).all()
    with pytest.raises(ValueError, match="reduced by box is made of its truth, and there is none"):
        degraded(lows(1)[0], draw_kind("a", scale_of("thumbnail"), 1))


def test_a_face_without_an_original_has_no_thumbnail_at_the_large_scale_and_one_at_the_small(tmp_path: Path) -> None:
    make_models(tmp_path)
    for folder in ("faces", "inputs/test"):
        write_inputs(tmp_path / folder, [face(1)], "test")
    models = {"facesr": str(tmp_path / "fidelity.safetensors")}
    for scale, count in (("256to1024-thumbnail", 0), ("64to256-thumbnail", 1), ("256to1024-jpeg75", 1)):
        part = tmp_path / f"{scale}.parquet"
        UpscaleWorker(inputs_of(tmp_path), models, OPTIONS)(
            RowUnit(str(part), 0, 1, "test-00000", "test", "facesr", scale)
        )
        rows = list(read_rows(part))
        assert [row["status"] for row in rows] == ["ok"] * count
    plain = Upscaler.load(tmp_path / "fidelity.safetensors", **OPTIONS | {"back_projection": 0})
    (row,) = read_rows(tmp_path / "64to256-thumbnail.parquet")
    low = compress(reduce_by(face(1), "box"), 85, "4:2:0")
    assert (decode(row["image"]["bytes"]) == plain([low])[0]).all()


def test_an_original_that_cannot_be_decoded_is_a_row_with_the_reason(tmp_path: Path) -> None:
    build(tmp_path, {"test": 2})
    make_models(tmp_path)
    damaged = {"bytes": b"no picture", "path": ""}
    change(tmp_path / "faces/test-00000.parquet", FACES, lambda rows: [rows[0] | {"image": damaged}, *rows[1:]])
    worker = UpscaleWorker(inputs_of(tmp_path), {"facesr": str(tmp_path / "fidelity.safetensors")}, OPTIONS)
    part = tmp_path / "part.parquet"
    unit = RowUnit(str(part), 0, 2, "test-00000", "test", "facesr", scale_of("thumbnail"))
    assert worker(unit) == {"images": 2, "failed": 1}
    failed, good = read_rows(part)
    assert (failed["status"], good["status"]) == ("failed", "ok")
    assert failed["error"]


def test_kinds_stand_apart_in_the_metrics_and_the_clean_scales_are_as_without_them(
    project: tuple[Path, EvaluationConfig],
) -> None:
    root, config = project
    without, found = aggregate(root / "plain", config)["test"], aggregate(root / "parts", config)["test"]
    assert {scale: found[scale] for scale in ("64to256", "256to1024")} == without
    assert set(found) == {"64to256", "256to1024", *map(scale_of, KINDS)}
    for kind in KINDS:
        scores = found[scale_of(kind)]
        assert {name: score["count"] for name, score in scores.items()} == dict.fromkeys(scores, 2)
    worse = [
        degraded(low, draw_kind(row["id"], scale_of("jpeg50"), SEED))
        for low, row in zip(lows(2), rows_of(root, "jpeg50"), strict=True)
    ]
    expected = [psnr(face(number), resize(low, 4 * SIDE, 4 * SIDE)) for number, low in enumerate(worse)]
    assert found[scale_of("jpeg50")]["bicubic"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-5)


# what a generator is told


def told_model(path: Path, seed: int = 0) -> Generator:
    config = GeneratorConfig((8,), blocks=1, bottleneck=1, told=("jpeg", "noise"))
    torch.manual_seed(seed)
    generator = Generator(config)
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.05)
    save_generator(path, generator, config, {}, torch.float32)
    return generator.eval()


def test_an_input_of_a_kind_is_enlarged_as_its_file_would_be(tmp_path: Path) -> None:
    told_model(tmp_path / "told.safetensors")
    upscaler = Upscaler.load(tmp_path / "told.safetensors", precision="fp32", back_projection=2, clean_only=True)
    low = face(1)[:96, :96]
    for kind in ("jpeg50", "mixed", "noise5", "blur1"):
        chain = KINDS[kind]
        worse, file = degrade_to_file(low, chain, 7)
        worse = worse if file is None else decode(file)
        result = enlarge_degraded(upscaler, worse, chain, file)
        assert (result == (upscaler(worse) if file is None else upscaler.encoded(file))).all(), kind
        untold = upscaler(worse, degradation="none")
        assert (result != untold).any() == (kind != "blur1"), "blur is nothing that can be told"


def test_the_stage_enlarges_a_jpeg_by_realism_as_facesr_upscale_would(tmp_path: Path) -> None:
    build(tmp_path, {"test": 1})
    for seed, name in enumerate(GENERATORS.values()):
        told_model(tmp_path / f"{name}.safetensors", seed)
    models = {method: str(tmp_path / f"{name}.safetensors") for method, name in GENERATORS.items()}
    (method,) = (method for method, name in GENERATORS.items() if name == "realism")
    scale, part = scale_of("jpeg50"), tmp_path / "part.parquet"
    worker = UpscaleWorker(inputs_of(tmp_path), models, OPTIONS)
    worker(RowUnit(str(part), 0, 1, "test-00000", "test", method, scale))
    (row,) = read_rows(part)
    _, file = degrade_to_file(lows(1)[0], KINDS["jpeg50"], draw_kind(row["id"], scale, SEED)["seed"])
    assert file is not None
    alone = Upscaler.load(tmp_path / "fidelity.safetensors", realism=1, precision="fp32")
    result = decode(row["image"]["bytes"])
    assert (result == alone.encoded(file)).all()
    # it agrees with what the file stores, which a clean picture of realism is not made to
    assert (result != alone.encoded(file, back_projection=0)).any()
    assert (result != Upscaler.load(tmp_path / "fidelity.safetensors", precision="fp32").encoded(file)).any()


def test_a_blind_generator_does_not_put_a_degradation_back(tmp_path: Path) -> None:
    config = GeneratorConfig((8,), blocks=0, bottleneck=1)
    save_generator(tmp_path / "blind.safetensors", Generator(config).eval(), config, {}, torch.float32)
    upscaler = Upscaler.load(tmp_path / "blind.safetensors", precision="fp32", back_projection=2, clean_only=True)
    low = lows(1)[0]
    result = enlarge_degraded(upscaler, low, KINDS["noise5"])
    assert (result == upscaler(low, back_projection=0)).all()
    assert (result != upscaler(low)).any()


def test_a_told_generator_is_told_in_tiles_as_in_the_whole(tmp_path: Path) -> None:
    told_model(tmp_path / "told.safetensors")
    whole, tiled = (Upscaler.load(tmp_path / "told.safetensors", precision="fp32", tile=tile) for tile in (512, 64))
    low = face(2)[:, :200]
    results = [enlarge_degraded(one, low, KINDS["noise5"]) for one in (whole, tiled)]
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


# other methods


def compact(path: Path) -> None:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    save_file(Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=4).state_dict(), path)


def test_weights_and_results_of_others_are_put_beside_ours_on_the_same_kinds(
    project: tuple[Path, EvaluationConfig], tmp_path: Path
) -> None:
    root, config = project
    compact(tmp_path / "peer.safetensors")
    network = load_network(tmp_path / "peer.safetensors")
    unit = RowUnit(str(tmp_path / "part.parquet"), 0, 2, "test-00000", "test", "peer", scale_of("mixed"))
    methods = {"peer": MethodDescription("weights", path=str(tmp_path / "peer.safetensors"))}
    assert BaselineWorker(inputs_of(root), methods)(unit) == {"images": 2, "failed": 0}
    cases = find_cases(config, "test", scale_of("mixed"), [row["id"] for row in rows_of(root, "mixed")])
    for row, case in zip(read_rows(tmp_path / "part.parquet"), cases, strict=True):
        assert case.low is not None
        assert (decode(row["image"]["bytes"]) == network(case.low)).all()
    # the same by `facesr evaluate --method peer=peer.safetensors`

    enlarge_inputs("peer", partial(enlarge_degraded, network), config, tmp_path / "peer")
    assert {path.name for path in (tmp_path / "peer").iterdir()} == {"64to256", "256to1024", *map(scale_of, KINDS)}
    (same, _) = read_rows(tmp_path / "peer" / scale_of("mixed") / "test-00000.parquet")
    assert same["image"]["bytes"] == next(read_rows(tmp_path / "part.parquet"))["image"]["bytes"]
    # and as finished results: clean ones by name, those of a kind in a folder of its scale
    folder = tmp_path / "results"
    for place, seed in (("", 0), (scale_of("mixed"), 1)):
        (folder / place).mkdir(exist_ok=True, parents=True)
        (folder / place / "0.png").write_bytes(encode_png(face(40 + seed)))
    assert import_pictures("theirs", str(folder), config, tmp_path / "theirs") == []
    for scale, seed in (("256to1024", 0), (scale_of("mixed"), 1)):
        (row,) = read_rows(tmp_path / "theirs" / scale / "test-00000.parquet")
        assert (row["name"], row["scale"]) == ("test/0.png", scale)
        assert (decode(row["image"]["bytes"]) == face(40 + seed)).all()
    more = replace(
        config, references=["peer", "theirs"], folders={name: str(tmp_path / name) for name in ("peer", "theirs")}
    )
    measure(more, tmp_path / "parts")
    scores = aggregate(tmp_path / "parts", more)["test"][scale_of("mixed")]
    assert (scores["peer"]["count"], scores["theirs"]["count"]) == (2, 1)


def test_a_picture_in_the_folder_of_a_kind_that_is_not_of_its_size_is_named(
    project: tuple[Path, EvaluationConfig], tmp_path: Path
) -> None:
    (tmp_path / "x" / scale_of("mixed")).mkdir(parents=True)
    (tmp_path / "x" / scale_of("mixed") / "0.png").write_bytes(encode_png(lows(1)[0]))
    (tmp_path / "x" / "1.png").write_bytes(encode_png(face(1)))
    (problem,) = import_pictures("x", str(tmp_path / "x"), project[1], tmp_path / "in")
    assert scale_of("mixed") in problem


def test_baselines_are_planned_for_the_kinds_that_are_measured_but_for_zssr(tmp_path: Path) -> None:
    write_inputs(tmp_path / "inputs/test", [face(number) for number in range(4)], "test")
    write_inputs(tmp_path / "faces", [np.zeros((1024, 1024, 3), np.uint8)], "test")
    (tmp_path / "results/256to1024-jpeg75").mkdir(parents=True)
    described = {
        "peer": MethodDescription("weights", path="peer.pth"),
        "theirs": MethodDescription("results", path=str(tmp_path / "results")),
        "zssr": MethodDescription("zssr"),
    }
    upscale = Upscale(kinds=["jpeg75", "noise5"], kind_faces={"test": 3})
    places = tmp_path / "faces", tmp_path / "inputs", tmp_path / "work"
    units = list(plan_baselines(Baselines(), upscale, described, *places))
    scales = {name: {unit.scale for unit in units if unit.method == name} for name in described}
    kinds = {f"{scale}-{kind}" for scale in ("64to256", "256to1024") for kind in ("jpeg75", "noise5")}
    assert scales["peer"] == {"64to256", "256to1024", *kinds}
    assert scales["theirs"] == {"256to1024-jpeg75"}
    assert scales["zssr"] == {"64to256", "256to1024"}
    assert {unit.stop for unit in units if unit.method == "peer" and unit.scale in kinds} == {3}
    fewer = plan_baselines(Baselines(faces={"test": 2}), upscale, described, *places)
    assert {unit.stop for unit in fewer} == {2}


def test_faces_and_kinds_say_how_much_is_enlarged() -> None:
    settings = Upscale(faces={"train": 9}, kinds=["jpeg75", "thumbnail"], kind_faces={"test": 5})
    limits = settings.limits()
    assert limits["256to1024"] == {"train": 9}
    assert limits["256to1024-jpeg75"] == limits["64to256-thumbnail"] == {"train": 0, "test": 5}
    assert "256to1024-noise5" not in limits
    assert settings.needs_originals
    assert not Upscale(kinds=["jpeg75"], kind_faces={"test": 5}).needs_originals

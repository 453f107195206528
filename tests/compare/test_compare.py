"""`facesr compare` measures any two places by name, names what does not match, and exposes a broken method."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.archives import as_folder, as_parquet, as_zip
from support.pictures import face, saved
from typer.testing import CliRunner

from pipeline.bulk.plan import items_of
from pipeline.bulk.settings import Settings
from pipeline.cli import app
from pipeline.compare.compare import compare
from pipeline.compare.name_match import MatchError, assign
from pipeline.core.images import Pixels, decode, encode_png, psnr, resize
from pipeline.evaluate.networks import find_networks
from pipeline.metrics.defects import diagnose, find_defects
from pipeline.metrics.fidelity import consistency, ssim
from pipeline.pretrained import registry as weights
from pipeline.sources.base import Entry

SIDE = 192


@pytest.fixture(autouse=True)
def no_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def bicubic(truth: Pixels) -> Pixels:
    return resize(resize(truth, SIDE // 4, SIDE // 4), SIDE, SIDE)


def tinted(truth: Pixels) -> Pixels:
    return np.clip(bicubic(truth).astype(int) + 2, 0, 255).astype(np.uint8)


def shifted(truth: Pixels) -> Pixels:
    matrix = np.array(((1, 0, 0.5), (0, 1, 0.5)), np.float32)
    return np.asarray(cv2.warpAffine(bicubic(truth), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT))


def mirrored(truth: Pixels) -> Pixels:
    return np.ascontiguousarray(bicubic(truth)[:, ::-1])


TRUTHS = {f"people/{number}.png": face(number, SIDE) for number in range(4)}


def place(root: Path, make: Any = None, suffix: str = ".png") -> str:
    files = {}
    for name, truth in TRUTHS.items():
        files[name.replace(".png", suffix)] = encode_png(make(truth) if make else truth)
    return as_folder(root, files)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *arguments, "--workers", "1"])
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_figures_are_those_of_each_pair_and_variants_have_keys_of_their_own(tmp_path: Path) -> None:
    originals, upscaled = place(tmp_path / "originals"), place(tmp_path / "upscaled", bicubic)
    code, _ = run(originals, upscaled, "--json", str(tmp_path / "out.json"))
    assert code == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["methods"]) == ["upscaled"]
    assert (found["unmatched"], found["count"]) == ([], 4)
    score = found["methods"]["upscaled"]
    pairs = [(truth, bicubic(truth)) for truth in TRUTHS.values()]
    assert score["psnr"] == pytest.approx(np.mean([psnr(*pair) for pair in pairs]), abs=1e-5)
    assert score["ssim"] == pytest.approx(np.mean([ssim(*pair) for pair in pairs]), abs=1e-5)
    strays = [consistency(result, resize(truth, SIDE // 4, SIDE // 4)) for truth, result in pairs]
    assert score["consistency"] == pytest.approx(np.mean(strays), abs=1e-5)
    assert score["psnr_ci95"][0] < score["psnr"] < score["psnr_ci95"][1]
    for key, network in (("lpips", "alexnet"), ("dists", "vgg16"), ("fid", "inception"), ("identity", "embedding")):
        assert score[key] is None
        assert network in score[f"{key}_reason"]


def test_from_python_it_gives_the_same_figures_and_reasons(tmp_path: Path) -> None:
    originals = place(tmp_path / "originals")
    few = as_folder(tmp_path / "few", {name: encode_png(bicubic(TRUTHS[name])) for name in list(TRUTHS)[:3]})
    code, _ = run(originals, few, "--against", "lanczos", "--json", str(tmp_path / "out.json"))
    assert code == 1
    found = compare(originals, few, baselines=["lanczos"], workers=1, report=tmp_path / "report")
    assert json.loads(json.dumps(found.to_json())) == json.loads((tmp_path / "out.json").read_text())
    assert (list(found.scores), found.baseline) == (["lanczos", "upscaled"], "lanczos")
    assert list(found.unmatched) == [list(TRUTHS)[3]]
    assert "upscaled" in (tmp_path / "report/report.html").read_text()
    with pytest.raises(MatchError, match="no picture in"):
        compare(originals, as_folder(tmp_path / "x", {"another.png": encode_png(TRUTHS["people/0.png"])}))


def test_archives_suffixes_and_folders_are_matched_by_name(tmp_path: Path) -> None:
    originals = as_zip(tmp_path / "o.zip", {name: encode_png(truth) for name, truth in TRUTHS.items()})
    flat = {f"{Path(name).stem}.webp": encode_png(bicubic(truth)) for name, truth in TRUTHS.items()}
    code, _ = run(originals, as_folder(tmp_path / "flat", flat), "--json", str(tmp_path / "out.json"))
    assert (code, json.loads((tmp_path / "out.json").read_text())["count"]) == (0, 4)


def test_mismatches_are_named_with_their_reason_and_the_rest_is_measured(tmp_path: Path) -> None:
    originals = place(tmp_path / "originals")
    names = list(TRUTHS)
    files = {
        names[0]: encode_png(bicubic(TRUTHS[names[0]])),
        names[1]: encode_png(bicubic(TRUTHS[names[1]])[:100]),
        names[2]: b"not a picture",
        "people/3_x4.png": encode_png(bicubic(TRUTHS[names[3]])),
    }
    upscaled = as_folder(tmp_path / "upscaled", files)
    code, said = run(originals, upscaled, "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert code == 1
    assert found["count"] == 1
    assert found["methods"]["upscaled"]["psnr"] == pytest.approx(
        psnr(TRUTHS[names[0]], bicubic(TRUTHS[names[0]])), abs=1e-5
    )
    assert set(found["unmatched"]) == {*names[1:], "people/3_x4.png"}
    why = found["unmatched_reasons"]
    assert "wrong size: 192x100, its original is 192x192" in why[names[1]]
    assert "not a picture" in why[names[2]]
    assert "missing" in why[names[3]]
    assert "no original of this name; is it people/3?" in why["people/3_x4.png"]
    assert "people/3_x4.png" in said


def paired(truths: list[str], results: list[str], *suffixes: str) -> dict[str, str | list[str]]:
    found = [[results[index] for index in own] for own in assign(truths, results, suffixes)]
    return {name: own[0] if len(own) == 1 else own for name, own in zip(truths, found, strict=True)}


@pytest.mark.parametrize(
    ("truths", "results", "expected"),
    [
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png"], ["a.jpg.png", "a.png"]),
        (["a.jpg", "a.png"], ["a.png"], [[], "a.png"]),
        (["a.jpg", "a.png"], ["a.webp"], [[], []]),
        (["a.jpg", "a.webp"], ["a.jpg.png", "a.webp.png"], ["a.jpg.png", "a.webp.png"]),
        (["a.jpg", "a.webp"], ["a.png"], [[], []]),
        (["a.jpg"], ["a.png"], ["a.png"]),
        (["a.jpg"], ["a.png", "a.webp"], [["a.png", "a.webp"]]),
        (["a.png"], ["a.png", "a.jpg"], ["a.png"]),
        (["x/a.jpg", "y/a.jpg"], ["y/a.png", "x/a.png"], ["x/a.png", "y/a.png"]),
        (["x/a.jpg", "y/a.jpg"], ["a.png"], [[], []]),
        (["x/a.jpg", "x/a.png"], ["a.png", "a.jpg.png"], ["a.jpg.png", "a.png"]),
        (["x\\a.png"], ["x/a.png"], ["x/a.png"]),
        (["é.png"], ["e\u0301.png"], ["e\u0301.png"]),
        (["face.01", "face.02"], ["face.02.png", "face.01.png"], ["face.01.png", "face.02.png"]),
    ],
)
def test_exact_names_come_first_then_those_that_upscale_gives_then_what_is_unique(
    truths: list[str], results: list[str], expected: list[Any]
) -> None:
    assert list(paired(truths, results).values()) == expected


def test_names_are_paired_as_upscale_itself_names_results() -> None:
    names = ["a.jpg", "a.png", "b.webp", "b.bmp", "c.tif", "d/a.png", "d/c.jpg", "e.f.jpg", "ü.png"]
    for form in ("png", "jpeg", "webp", "same"):
        items = items_of([Entry(name, None) for name in names], Settings(format=form))
        assert paired(names, sorted(item.target for item in items)) == {item.name: item.target for item in items}


def test_what_other_tools_add_to_names_is_taken_off() -> None:
    assert paired(["0001.png"], ["0001_out.png"]) == {"0001.png": []}
    assert paired(["0001.png"], ["0001_out.png"], "_out") == {"0001.png": "0001_out.png"}
    assert paired(["0001.png"], ["x/0001.jpg.png"], ".jpg") == {"0001.png": "x/0001.jpg.png"}
    both = paired(["1.png", "2.png"], ["1_out.png", "2_x4.png"], "_out", "_x4")
    assert both == {"1.png": "1_out.png", "2.png": "2_x4.png"}
    assert paired(["_out.png"], ["_out.png"], "_out") == {"_out.png": "_out.png"}


def test_no_picture_is_measured_against_one_of_another_suffix(tmp_path: Path) -> None:
    first, second = face(1, SIDE), face(2, SIDE)
    originals = as_folder(tmp_path / "o", {"a.png": encode_png(first), "a.jpg": encode_png(second)})
    both = {"a.png": encode_png(bicubic(first)), "a.jpg.png": encode_png(bicubic(second))}
    code, said = run(originals, as_folder(tmp_path / "u", both), "--json", str(tmp_path / "out.json"))
    assert code == 0, said
    expected = np.mean([psnr(first, bicubic(first)), psnr(second, bicubic(second))])
    score = json.loads((tmp_path / "out.json").read_text())["methods"]["upscaled"]
    assert (score["count"], score["psnr"]) == (2, pytest.approx(expected, abs=1e-5))
    one = as_folder(tmp_path / "one", {"a.png": encode_png(bicubic(first))})
    code, _ = run(originals, one, "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert (code, found["count"], found["unmatched"]) == (1, 1, ["a.jpg"])
    assert found["methods"]["upscaled"]["psnr"] == pytest.approx(psnr(first, bicubic(first)), abs=1e-5)


def test_names_that_an_archive_holds_twice_are_named_and_not_measured(tmp_path: Path) -> None:
    data = {number: encode_png(face(number, SIDE)) for number in range(3)}
    twice = as_parquet(tmp_path / "twice.parquet", {"a.png": data[0], "b.png": data[1], "c.png": data[2]})
    table = pq.read_table(twice)
    pq.write_table(table.append_column("name", pa.array(["a.png", "a.png", "c.png"])), twice)
    plain = as_folder(tmp_path / "plain", {"a.png": data[1], "c.png": data[2]})
    for arguments, why in (((twice, plain), "2 originals of this name"), ((plain, twice), "several pictures")):
        code, said = run(*arguments, "--json", str(tmp_path / "out.json"))
        found = json.loads((tmp_path / "out.json").read_text())
        assert (code, found["count"], found["unmatched"]) == (1, 1, ["a.png"]), said
        assert why in found["unmatched_reasons"]["a.png"]


def test_a_suffix_that_all_results_share_is_suggested_and_taken(tmp_path: Path) -> None:
    originals = place(tmp_path / "o")
    theirs = place(tmp_path / "u", bicubic, suffix="_out.png")
    code, said = run(originals, theirs)
    assert code == 2
    assert "all end in _out: is it --suffix _out?" in " ".join(said.split())
    ours = place(tmp_path / "ours", bicubic)
    code, said = run(originals, ours, "--against", f"other={theirs}")
    assert code == 1
    assert "--suffix _out" in said
    code, _ = run(originals, theirs, "--suffix", "_out", "--json", str(tmp_path / "out.json"))
    assert (code, json.loads((tmp_path / "out.json").read_text())["count"]) == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "{up}"], "nowhere"),
        (["{orig}", "{other}"], "no picture in"),
        (["{orig}", "{up}", "--against", "folder"], "NAME=FOLDER"),
        (["{orig}", "{up}", "--against", "upscaled={up}"], "is taken"),
        (["{orig}", "{up}", "--device", "tpu"], "cpu or cuda"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    places = {"orig": place(tmp_path / "o"), "up": place(tmp_path / "u", bicubic)}
    places["other"] = as_folder(tmp_path / "x", {"another.png": saved(Image.new("RGB", (8, 8)), "PNG")})
    code, output = run(*(one.format(**places) for one in arguments))
    assert code == 2
    assert said in output.replace("\n", "")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A sound method and three broken ones, compared: the JSON and the page."""
    root = tmp_path_factory.mktemp("broken")
    makers = {"tinted": tinted, "shifted": shifted, "mirrored": mirrored}
    against = [word for name, make in makers.items() for word in ("--against", f"{name}={place(root / name, make)}")]
    arguments = [place(root / "originals"), place(root / "sound", bicubic), *against, "--against", "bicubic"]
    code, said = run(*arguments, "--json", str(root / "out.json"), "--report", str(root / "report"))
    assert code == 0, said
    return json.loads((root / "out.json").read_text()), (root / "report/report.html").read_text()


def test_a_colour_shift_moves_consistency_and_psnr_and_hardly_ssim(broken: tuple[dict[str, Any], str]) -> None:
    sound, bad = (broken[0]["methods"][name] for name in ("upscaled", "tinted"))
    assert bad["consistency"] > 2 > sound["consistency"]
    assert bad["psnr"] < sound["psnr"]
    assert bad["ssim"] == pytest.approx(sound["ssim"], abs=0.005)
    assert "tinted: its reduction differs from the input by a constant colour of +" in broken[1]
    assert all(bad[f"bias_{channel}"] == pytest.approx(2.0, abs=0.3) for channel in "rgb")


def test_a_half_pixel_shift_moves_psnr_ssim_and_consistency_and_is_measured(broken: tuple[dict[str, Any], str]) -> None:
    sound, bad = (broken[0]["methods"][name] for name in ("upscaled", "shifted"))
    assert bad["psnr"] < sound["psnr"] - 0.2
    assert bad["ssim"] < sound["ssim"]
    assert bad["consistency"] > 1.2 * sound["consistency"]
    assert bad["shift_x"] == pytest.approx(0.5, abs=0.1)
    assert bad["shift_y"] == pytest.approx(0.5, abs=0.1)
    assert "shifted: it is shifted by (0.5, 0.5) pixels" in broken[1]


def test_a_mirrored_method_moves_everything_and_is_called_that(broken: tuple[dict[str, Any], str]) -> None:
    sound, bad = (broken[0]["methods"][name] for name in ("upscaled", "mirrored"))
    assert bad["ssim"] < sound["ssim"] - 0.1
    assert bad["consistency"] > 10 * sound["consistency"]
    assert bad["mirror_gain"] > 5
    assert "mirrored: it is mirrored" in broken[1]


def test_a_sound_method_is_not_called_broken_and_equals_the_one_made_here(broken: tuple[dict[str, Any], str]) -> None:
    methods = broken[0]["methods"]
    assert diagnose(methods["upscaled"]) == []
    assert "upscaled: it" not in broken[1]
    for key in ("psnr", "ssim", "consistency", "ms_ssim", "psnr_y"):
        assert methods["upscaled"][key] == methods["bicubic"][key]
    assert methods["bicubic"]["against"]["upscaled"]["psnr"]["p_holm"] == 1
    assert methods["mirrored"]["against"]["upscaled"]["psnr"]["won"] == 4


def test_a_tint_is_not_taken_for_a_shift_nor_a_shift_for_a_tint() -> None:
    truth = face(9, SIDE)
    low = resize(truth, SIDE // 4, SIDE // 4)
    tint, shift = find_defects(truth, low, tinted(truth)), find_defects(truth, low, shifted(truth))
    assert max(abs(tint["shift_x"]), abs(tint["shift_y"])) < 0.05
    assert max(abs(shift[f"bias_{channel}"]) for channel in "rgb") < 0.5
    blue = bicubic(truth).copy()
    blue[..., 2] = np.clip(blue[..., 2].astype(int) - 3, 0, 255)
    (said,) = diagnose(find_defects(truth, low, blue))
    assert "red +0.0, green +0.0, blue −" in said


def test_a_method_that_covers_fewer_pictures_has_a_count_and_a_comparison_of_its_own(tmp_path: Path) -> None:
    few = as_folder(tmp_path / "few", {name: encode_png(tinted(TRUTHS[name])) for name in list(TRUTHS)[:2]})
    originals, upscaled = place(tmp_path / "o"), place(tmp_path / "u", bicubic)
    code, _ = run(originals, upscaled, "--against", f"few={few}", "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert code == 1
    assert found["unmatched"] == [f"few: {name}" for name in list(TRUTHS)[2:]]
    few_score = found["methods"]["few"]
    assert (found["count"], few_score["count"]) == (4, 2)
    expected = np.mean([psnr(TRUTHS[name], bicubic(TRUTHS[name])) for name in list(TRUTHS)[:2]])
    assert few_score["on_same_faces"]["upscaled"]["psnr"] == pytest.approx(expected, abs=1e-5)


def test_nothing_printed_or_written_holds_a_credential_or_a_place_of_this_machine(tmp_path: Path) -> None:
    place(tmp_path / "o")
    code, _ = run(str(tmp_path / "o"), place(tmp_path / "u", bicubic), "--report", str(tmp_path / "report"))
    assert code == 0
    for path in (tmp_path / "report").rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path
    secret = "s3://KEY:SECRET@bucket/x?secret_key=SECRET"
    for arguments in (("x", "x", "--against", f"upscaled={secret}"), (f"bad{secret}", "x")):
        code, said = run(*arguments)
        assert code == 2
        assert "SECRET" not in said


def test_the_page_shows_what_was_not_compared(tmp_path: Path) -> None:
    files = {name: encode_png(bicubic(truth)) for name, truth in list(TRUTHS.items())[:3]}
    code, _ = run(place(tmp_path / "o"), as_folder(tmp_path / "u", files), "--report", str(tmp_path / "report"))
    page = (tmp_path / "report/report.html").read_text()
    assert code == 1
    assert "people/3.png: missing" in page
    assert "The paper's own figures" not in page
    assert decode((tmp_path / "report/sheets/pictures.png").read_bytes()).shape[1] == 64 + 3 * 264


def test_a_network_that_is_named_is_used_and_one_that_is_broken_is_a_reason_and_fails_nothing(tmp_path: Path) -> None:
    import torch
    from torchvision.models import alexnet

    state = {f"features.{key}": value for key, value in alexnet(weights=None).features.state_dict().items()}
    torch.save(state, tmp_path / "alexnet.pth")
    (tmp_path / "vgg16.pth").write_bytes(b"torn")
    arguments = [place(tmp_path / "o"), place(tmp_path / "u", mirrored), "--json", str(tmp_path / "out.json")]
    networks = ["--alexnet", str(tmp_path / "alexnet.pth"), "--vgg16", str(tmp_path / "vgg16.pth")]
    code, said = run(*arguments, *networks)
    assert code == 0, said
    score = json.loads((tmp_path / "out.json").read_text())["methods"]["upscaled"]
    assert score["lpips"] > 0
    assert score["lpips_ci95"]
    for key in ("lpips_vgg", "dists"):
        assert score[key] is None
        assert "vgg16.pth holds no usable VGG-16 weights" in score[f"{key}_reason"]
        assert "weights_only" not in score[f"{key}_reason"], "torch's advice is to run what the file holds"
    assert score["psnr"] > 0
    code, said = run(*arguments, "--inception", str(tmp_path / "nowhere.pth"))
    assert code == 2
    assert "nowhere.pth" in said.replace("\n", "")


def test_vgg_that_merely_lies_there_does_not_make_a_run_on_a_cpu_take_hours() -> None:
    path = weights.cache_folder() / weights.NETWORKS["vgg16"].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"never read")
    networks, problems = find_networks({}, "cpu")
    assert networks.get("vgg16") is None
    assert "20 s" in problems["vgg16"]
    assert "holds no usable VGG-16" in find_networks({"vgg16": str(path)}, "cpu")[1]["vgg16"]

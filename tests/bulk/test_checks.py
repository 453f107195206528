"""Among the results of a run the pictures worth a look are named."""

from typing import Any

from pipeline.bulk.checks import DISAGREES_ALWAYS, flags_of, severity


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [
        {"status": "ok", **dict(zip(columns, values, strict=True))} for values in zip(*columns.values(), strict=True)
    ]


USUAL = [0.10, 0.12, 0.15, 0.11, 0.13, 0.14, 0.12, 0.16]


def test_a_result_that_strays_unlike_the_others_is_flagged() -> None:
    assert flags_of(rows(consistency=[*USUAL, 1.5])) == [""] * 8 + ["disagrees"]


def test_an_outlier_below_one_grey_level_is_not_worth_a_look() -> None:
    assert flags_of(rows(consistency=[*USUAL, 0.9])) == [""] * 9


def test_noisy_inputs_that_all_stray_alike_are_not_flagged() -> None:
    assert flags_of(rows(consistency=[2.1, 2.4, 2.2, 2.6, 2.5, 2.3, 2.0, 2.9])) == [""] * 8


def test_a_whole_set_gone_wrong_is_flagged_though_none_stands_out() -> None:
    assert flags_of(rows(consistency=[DISAGREES_ALWAYS + 1] * 20)) == ["disagrees"] * 20


def test_few_pictures_are_held_to_the_absolute_thresholds() -> None:
    table = rows(consistency=[0.1, 0.1, 0.9, 1.1], identity=[0.99, 0.98, 0.7, 0.4])
    assert flags_of(table) == ["", "", "", "disagrees,identity"]


def test_another_person_is_flagged_and_a_slight_difference_is_not() -> None:
    likeness = [0.99, 0.98, 0.985, 0.99, 0.97, 0.98]
    assert flags_of(rows(identity=[*likeness, 0.45])) == [""] * 6 + ["identity"]
    assert flags_of(rows(identity=[*likeness, 0.7])) == [""] * 6 + ["identity"]
    assert flags_of(rows(identity=[*likeness, 0.9])) == [""] * 7
    # 0.7 is no outlier where all lie there
    assert flags_of(rows(identity=[0.62, 0.75, 0.7, 0.66, 0.78, 0.71, 0.7])) == [""] * 7


def test_equal_values_have_no_outliers() -> None:
    assert flags_of(rows(consistency=[2.0] * 9 + [2.01], identity=[0.7] * 9 + [0.699])) == [""] * 10


def test_no_face_is_flagged_only_where_faces_were_looked_for() -> None:
    assert flags_of(rows(faces=[None, 0, 2])) == ["", "no-face", ""]
    assert flags_of([{"status": "ok"}]) == [""]


def test_what_was_not_measured_or_not_done_has_no_flags() -> None:
    table = rows(consistency=[None, float("nan"), 9.0], identity=[None, float("nan"), 0.1], faces=[None, None, 0])
    table[2]["status"] = "failed"
    assert flags_of(table) == ["", "", ""]


def test_failed_pictures_do_not_shift_what_is_usual() -> None:
    table = rows(consistency=[*USUAL, 1.5] + [3.0] * 20)
    for row in table[9:]:
        row["status"] = "failed"
    assert flags_of(table)[8] == "disagrees"


def test_worse_pictures_come_first() -> None:
    mild, bad = ({"flags": "disagrees", "consistency": value} for value in (1.2, 8.0))
    stranger = {"flags": "identity", "identity": 0.1}
    both = {"flags": "disagrees,identity", "consistency": 8.0, "identity": 0.1}
    assert severity({"flags": ""}) == severity({}) == 0
    assert 1 <= severity({"flags": "no-face"}) < severity(mild) < severity(stranger) < severity(bad) < severity(both)

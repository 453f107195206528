"""Intervals and tests are the textbook's."""

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluate.statistics import bootstrap, holm, paired


def test_intervals_are_those_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).normal(30, 2, 80)
    (low, high) = bootstrap(values[:, None])[0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=1).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.06)
    assert high == pytest.approx(theirs.high, abs=0.06)
    assert bootstrap(values[:, None])[0].tolist() == [low, high]


def test_faces_without_a_value_do_not_spoil_a_columns_interval() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    found = bootstrap(values)
    assert found[1].tolist() == [5, 5]
    assert np.isnan(found[2]).all()
    assert 1 <= found[0, 0] < 2 < found[0, 1] <= 3


def test_paired_tests_are_wilcoxons_and_know_which_way_is_better() -> None:
    gains = np.random.default_rng(1).normal(0.3, 0.5, 40)
    found = paired({"psnr": gains, "consistency": gains, "lpips": np.full(40, np.nan)}, {"psnr": 1, "consistency": -1})
    assert found["psnr"]["p"] == pytest.approx(stats.wilcoxon(gains).pvalue, rel=1e-2)
    assert found["psnr"]["mean"] == pytest.approx(gains.mean(), abs=1e-6)
    assert found["psnr"]["won"] + found["consistency"]["won"] == 40
    assert found["psnr"]["won"] == (gains > 0).sum()
    assert "lpips" not in found
    assert paired({"psnr": np.zeros(5)}, {"psnr": 1})["psnr"]["p"] == 1


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == [0.06, 0.03, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []

"""What is drawn on ground truths: kinds, colours, edges."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.train.engine.drawing import KINDS, Canvas, draw

FLAT = np.full((64, 96, 3), 120, np.uint8)


def edges(picture: np.ndarray) -> float:
    """The largest step between neighbours in a row."""
    return float(np.abs(np.diff(picture.astype(int), axis=1)).max())


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_changes_a_part_of_most_pictures(kind: Callable[[Canvas], None]) -> None:
    changed = []
    for seed in range(40):
        canvas = Canvas(FLAT, np.random.default_rng(seed))
        kind(canvas)
        drawn = canvas.drawn()
        assert drawn.shape == FLAT.shape
        assert drawn.dtype == np.uint8
        changed.append(float((drawn != FLAT).any(axis=2).mean()))
    assert sum(share > 0 for share in changed) >= 30
    assert 0.01 < np.median(changed) < 0.7


def test_drawings_are_light_and_dark_with_hard_edges_and_soft_ones() -> None:
    drawn = [draw(FLAT, np.random.default_rng(seed)) for seed in range(60)]
    assert min(picture.min() for picture in drawn) < 20
    assert max(picture.max() for picture in drawn) > 235
    steepest = [edges(picture) for picture in drawn if (picture != FLAT).any()]
    assert len(steepest) >= 55
    assert min(steepest) < 30
    assert max(steepest) > 100


def test_the_same_numbers_draw_the_same_and_others_something_else() -> None:
    first, again, other = (draw(FLAT, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_small_ground_truths_are_drawn_on_as_well() -> None:
    small = np.full((16, 16, 3), 200, np.uint8)
    assert any((draw(small, np.random.default_rng(seed)) != small).any() for seed in range(20))
    assert (small == 200).all()

"""Enlarging and reducing by products is what torch's operator does, and leaves what it cannot do to that."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.models.bicubic import enlarge_by_products, reduce_by_products
from pipeline.models.networks import enlarge


@pytest.mark.parametrize("shape", [(1, 3, 256, 256), (2, 3, 16, 16), (1, 1, 17, 33), (3, 4, 100, 37), (1, 3, 1, 2)])
def test_products_give_what_the_operator_gives_at_any_size(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape) * 1.2 - 0.1
    expected = F.interpolate(x, scale_factor=4, mode="bicubic", antialias=True)
    with torch.no_grad():
        found = enlarge_by_products(x, 4)
        with torch.autocast("cpu", torch.bfloat16):  # as validation during training has it
            within = enlarge_by_products(x, 4)
    for result in (found, within):
        assert result is not None
        assert result.shape == expected.shape
        assert (result - expected).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 3, 1024, 1024), (2, 3, 128, 132), (1, 1, 260, 404)])
def test_products_reduce_as_the_operator_does(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape) * 1.2 - 0.1
    expected = F.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    with torch.no_grad():
        found = reduce_by_products(x, 4)
    assert found is not None
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-6


def test_what_products_cannot_reduce_is_left_to_the_operator() -> None:
    assert reduce_by_products(torch.rand(1, 3, 256, 256), 4) is None  # gradients may be asked for
    with torch.no_grad():
        assert reduce_by_products(torch.rand(1, 3, 256, 254), 4) is None
        assert reduce_by_products(torch.rand(1, 3, 256, 64), 4) is None
        assert reduce_by_products(torch.rand(1, 3, 256, 256).transpose(2, 3), 4) is None
        assert reduce_by_products(torch.rand(1, 1, 128, 8000), 4) is None


def test_a_picture_enlarged_in_inference_mode_does_not_hinder_training_on_the_same_size() -> None:
    with torch.inference_mode():
        enlarge(torch.rand(1, 3, 23, 29))
    with torch.no_grad():
        enlarge(torch.rand(1, 3, 23, 29))
    x = torch.rand(1, 3, 23, 29, requires_grad=True)
    enlarge(x).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == pytest.approx(3 * 16 * 23 * 29, rel=1e-4)


def test_gradients_and_very_large_pictures_are_left_to_the_operator() -> None:
    assert enlarge_by_products(torch.rand(1, 3, 16, 16), 4) is None
    with torch.no_grad():
        assert enlarge_by_products(torch.rand(1, 1, 1, 2000), 4) is None
        assert enlarge(torch.rand(1, 1, 1, 2000)).shape == (1, 1, 4, 8000)

"""Fine structure without a direction costs nothing, a drawn lattice does, and its gradient takes the lattice away."""

import pytest
import torch
from torch import Tensor

from pipeline.train.engine.isotropy import anisotropy


def textured(side: int = 128, strength: float = 0.02) -> Tensor:
    """Grey pictures with fine noise that has no direction, (4, 3, side, side)."""
    noise = torch.randn(4, 1, side, side, generator=torch.Generator().manual_seed(3))
    return (0.5 + strength * noise).expand(-1, 3, -1, -1).contiguous()


def lattice(side: int = 128, cycles: float = 0.219, strength: float = 0.01) -> Tensor:
    """Waves along both axes, `cycles` a pixel, (1, 1, side, side)."""
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(side))
    return (strength * wave[:, None] * wave[None])[None, None]


def test_noise_has_no_direction() -> None:
    assert float(anisotropy(textured())) < 0.01


@pytest.mark.parametrize("strength", [0.005, 0.02, 0.08])
def test_how_strong_fine_structure_is_does_not_matter(strength: float) -> None:
    assert float(anisotropy(textured(strength=strength))) < 0.01


@pytest.mark.parametrize("cycles", [0.219, 0.25, 0.4])
def test_a_lattice_costs_more_the_stronger_it_is(cycles: float) -> None:
    values = [float(anisotropy(textured() + lattice(cycles=cycles, strength=strength))) for strength in (0, 0.02, 0.05)]
    assert values[0] < values[1] < values[2]
    assert values[2] > 0.02


def test_lines_of_one_direction_cost_as_well() -> None:
    lines = 0.03 * torch.cos(2 * torch.pi * 0.3 * torch.arange(128.0))
    assert float(anisotropy(textured() + lines)) > float(anisotropy(textured())) + 0.003


def test_its_gradient_takes_a_lattice_away_and_leaves_the_rest() -> None:
    result = (textured() + lattice(strength=0.03)).requires_grad_()
    wave = lattice(strength=1)

    def share(x: Tensor) -> float:
        return float(((x - 0.5) * wave).mean() / wave.square().mean())

    before = share(result.detach())
    optimizer = torch.optim.Adam([result], 1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        anisotropy(result).backward()
        optimizer.step()
    after = result.detach()
    assert before == pytest.approx(0.03, rel=0.05)
    assert abs(share(after)) < 0.5 * before
    rest = torch.stack([textured() - 0.5, after - 0.5 - share(after) * wave]).flatten(1)
    assert float(torch.corrcoef(rest)[0, 1]) > 0.85


def test_a_flat_picture_has_none_and_a_finite_gradient() -> None:
    flat = torch.full((1, 3, 32, 48), 0.4, requires_grad=True)
    value = anisotropy(flat)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert flat.grad is not None
    assert bool(flat.grad.isfinite().all())

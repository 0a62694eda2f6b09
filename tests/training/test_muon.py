"""Muon against the singular value decomposition and against AdamW."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.training import muon
from pyramidseg.training.muon import RMS, Muon, orthogonalize


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 9), scale=st.sampled_from([1e-6, 1, 1e4])
)
@settings(max_examples=40, deadline=None)
def test_singular_values_come_close_to_one_and_directions_stay(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    spectrum = torch.linspace(0.2, 1, min(rows, columns))
    result = orthogonalize(scale * left @ spectrum.diag() @ right).float()
    found = left.T @ result @ right.T
    assert found.shape == (min(rows, columns),) * 2
    assert found.diagonal().min() > 0.6
    assert found.diagonal().max() < 1.3
    assert (found - found.diagonal().diag()).abs().max() < 0.1  # bfloat16


@pytest.mark.parametrize("shape", [(64, 576), (48, 48), (1, 9)])
def test_iterating_the_gram_matrix_is_the_same(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.logspace(0, -6, shape[0]).diag() @ right
    matrix /= matrix.norm()
    expected = muon._iterate(matrix.double())
    torch.testing.assert_close(muon._iterate_gram(matrix).double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_used_only_where_it_is_fast(
    fast: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "has_fast_bf16", lambda device: fast)
    assert orthogonalize(torch.randn(8, 24)).dtype == dtype


def test_an_update_has_the_size_that_adamw_has() -> None:
    weight = torch.nn.Parameter(torch.zeros(64, 32, 3, 3))
    weight.grad = torch.randn_like(weight)
    Muon([{"params": [weight], "orthogonal": True}], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.01 * RMS, rel=0.5)


def test_other_groups_are_adamw() -> None:
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7).double()) for _ in range(2))
    muon = Muon([{"params": [mine], "weight_decay": 0.1}], lr=0.01)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for _ in range(20):
        mine.grad = theirs.grad = torch.randn(7, dtype=torch.float64)
        muon.step()
        adamw.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=0)


def test_a_gradient_of_zero_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 5))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([{"params": [weight], "orthogonal": True}], lr=1.0).step()
    assert torch.equal(weight, before)

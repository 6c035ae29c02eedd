"""Networks with Fourier transforms and complex weights, and what is refused in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hesrl.curvature import MissingRuleError, explain, hess_diag
from tests import reference

X, TARGET = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.manual_seed(0)).unbind()


def weight(*shape: int) -> Tensor:
    return torch.randn(*shape, 2, dtype=torch.float64, generator=torch.manual_seed(1))


def test_a_global_filter_is_the_recursion_by_definition():
    """``y = F⁻¹(w F x)``, from the loss ``Σ (y − t)²`` down to w."""
    w, x = weight(4), torch.fft.rfft(X)
    z = torch.view_as_real(torch.view_as_complex(w) * x)

    def inverse(z: Tensor) -> Tensor:
        return torch.fft.irfft(torch.view_as_complex(z), n=6)

    def filtered(w: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(w) * x)

    grad_y = 2 * (inverse(z) - TARGET)
    hess_y = torch.full_like(grad_y, 2.0)
    (grad_z,) = torch.func.vjp(inverse, z)[1](grad_y)
    hess_z = reference.hesscale(inverse, [z], 0, grad_y.flatten(), hess_y.flatten())
    expected = reference.hesscale(filtered, [w], 0, grad_z.flatten(), hess_z.flatten())
    param = w.clone().requires_grad_()
    y = torch.fft.irfft(torch.fft.rfft(X) * torch.view_as_complex(param), n=6)
    (h,) = hess_diag((y - TARGET).square().sum(), [param])
    torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-12)


def test_modes_assigned_to_a_complex_buffer():
    """As a Fourier neural operator does, or by concatenation."""
    param = weight(3, 5, 2).requires_grad_()

    def modes() -> Tensor:
        spectrum = torch.fft.rfft(X.view(2, 2, 6).expand(2, 2, 6).repeat(1, 2, 1)[:, :3])
        return torch.einsum("bix,iox->box", spectrum[:, :, :2], torch.view_as_complex(param))

    def assigned() -> Tensor:
        spectrum = torch.zeros(2, 5, 4, dtype=torch.complex128)
        spectrum[:, :, :2] = modes()
        return spectrum

    def joined() -> Tensor:
        return torch.cat([modes(), torch.zeros(2, 5, 2, dtype=torch.complex128)], -1)

    first, second = (
        hess_diag(torch.fft.irfft(spectrum(), n=6).tanh().square().sum(), [param])[0]
        for spectrum in (assigned, joined)
    )
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    assert first.abs().max() > 0.1


def test_what_has_no_rule_for_complex_tensors_is_refused_by_name():
    param = X.clone().requires_grad_()
    for function, name in ((torch.asin, "Asin"), (torch.linalg.vector_norm, "LinalgVectorNorm")):
        loss = function(torch.fft.fft(param)).abs().sum()
        with pytest.raises(MissingRuleError, match=rf"for {name}Backward0 of complex tensors \("):
            hess_diag(loss, [param])


def test_a_spectrogram_and_back():
    param = X.clone().requires_grad_()
    window = torch.hann_window(4, dtype=torch.float64)
    spectrum = torch.stft(param, 4, 2, window=window, return_complex=True)
    loss = spectrum.abs().log1p().sum() + torch.istft(spectrum, 4, 2, window=window).pow(3).sum()
    (h,) = hess_diag(loss, [param])
    assert h.isfinite().all()


def test_explain_names_the_rules(capsys):
    param = X.clone().requires_grad_()
    explain((torch.fft.rfft(param) * 2j).exp().abs().sum(), [param])
    printed = capsys.readouterr().out
    for name in ("complex_numbers.modulus", "elementary.exp", "spectral.real_to_complex"):
        assert f"rules.{name}" in printed


def test_a_structure_that_was_real_before_may_be_complex():
    """The plan is kept by structure; a number of another kind is another plan."""
    param = torch.tensor([3.0, -4.0], requires_grad=True)
    for factor, expected in ((2.0, [8.0, 8.0]), (2j, [8.0, 8.0])):
        (h,) = hess_diag((param * torch.tensor([factor, factor])).abs().square().sum(), [param])
        assert h.tolist() == expected

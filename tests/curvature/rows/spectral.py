"""Fourier transforms, between real coordinates of both ends."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tests.curvature.rows.complex_numbers import coordinates, of_complex, of_real
from tests.curvature.rows.row import Row, normal


def signal() -> tuple[Tensor, ...]:
    return (normal(4, 3, 5).mT,)


def spectrum() -> tuple[Tensor, ...]:
    return (normal(3, 5, 4, 2),)


ROWS = [
    *(
        Row(f"{name} {norm}", node, wrapped(partial(function, norm=norm, **options)), inputs)
        for norm in ("backward", "ortho", "forward")
        for name, node, wrapped, function, options, inputs in (
            ("fft", "FftC2CBackward0", of_complex, torch.fft.fft, {"dim": 1}, spectrum),
            ("ifft", "FftC2CBackward0", of_complex, torch.fft.ifft, {}, spectrum),
            ("fftn", "FftC2CBackward0", of_complex, torch.fft.fftn, {"dim": (0, 2)}, spectrum),
            ("rfft", "FftR2CBackward0", of_real, torch.fft.rfft, {}, signal),
            ("rfft odd", "FftR2CBackward0", of_real, torch.fft.rfft, {"dim": -2}, signal),
            ("rfft padded", "FftR2CBackward0", of_real, torch.fft.rfft, {"n": 7}, signal),
            ("ihfft", "FftR2CBackward0", of_real, torch.fft.ihfft, {}, signal),
            ("fft of real", "FftR2CBackward0", of_real, torch.fft.fft, {}, signal),
            ("irfft", "FftC2RBackward0", of_complex, torch.fft.irfft, {"n": 6}, spectrum),
            ("irfft odd", "FftC2RBackward0", of_complex, torch.fft.irfft, {"n": 7}, spectrum),
            ("irfft cut", "FftC2RBackward0", of_complex, torch.fft.irfft, {"n": 3}, spectrum),
            ("irfft of one", "FftC2RBackward0", of_complex, torch.fft.irfft, {"n": 1}, spectrum),
            ("hfft", "FftC2RBackward0", of_complex, torch.fft.hfft, {}, spectrum),
        )
    ),
    Row(
        "several dimensions at once",
        "FftR2CBackward0",
        lambda x: coordinates(torch.ops.aten._fft_r2c(x, [0, 2], 1, True)),
        signal,
    ),
    Row(
        "several dimensions at once, to real",
        "FftC2RBackward0",
        of_complex(lambda x: torch.ops.aten._fft_c2r(x, [0, 2], 2, 6)),
        spectrum,
    ),
]

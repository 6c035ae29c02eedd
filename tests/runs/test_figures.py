"""Colours and dashes of optimizers, and the formats of pictures."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from hesrl import optim
from hesrl.errors import UserError
from hesrl.runs.figures import (
    OPTIMIZER_COLORS,
    check_format,
    freeze_layout,
    line_styles,
    new_figure,
    optimizer_color,
    picture,
    write_figure,
)

# What an eye without green, without red and with all cones sees of linear RGB (Machado,
# Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "all": np.eye(3),
}
XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]
WHITE = [0.95047, 1.0, 1.08883]


def lab(color, sight):
    """CIE L*a*b* of a colour as the eye sees it."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(SIGHT[sight] @ linear, 0, 1) / WHITE
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart_by_every_eye(sight):
    seen = [lab(color, sight) for color in OPTIMIZER_COLORS.values()]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 15  # 2.3 is just noticeable
    assert max(value[0] for value in seen) < 80  # a line on white


def test_every_optimizer_has_a_colour_and_its_scaled_form_has_dashes():
    families = {name.removeprefix("scaled-") for name in optim.known()}
    assert families <= OPTIMIZER_COLORS.keys()
    names = [(name, name) for name in optim.known()]
    looks = [tuple(map(str, style.values())) for style in line_styles(names).values()]
    assert len(set(looks)) == len(names)
    assert optimizer_color("scaled-adam") == optimizer_color("adam")


def test_lines_of_one_optimizer_have_different_dashes():
    styles = line_styles([("adam", "ppo adam"), ("adam", "a2c adam"), ("new", "ppo new")])
    ppo, a2c, new = styles.values()
    assert ppo["color"] == a2c["color"] == optimizer_color("adam")
    assert ppo["linestyle"] != a2c["linestyle"]
    assert new["color"] in OPTIMIZER_COLORS.values() and new["color"] != ppo["color"]


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_pictures_are_written_in_three_formats_and_equal_ones_are_equal(tmp_path, form, start):
    figure = new_figure(2, 2)
    figure.add_subplot().plot([0, 1])
    freeze_layout(figure)
    write_figure(tmp_path / f"picture.{form}", figure)
    written = (tmp_path / f"picture.{form}").read_bytes()
    assert written.startswith(start) and written == picture(figure, form)


def test_another_format_is_refused():
    with pytest.raises(UserError, match=r"^--out x.gif: must end with .png, .pdf or .svg$"):
        check_format("--out", Path("x.gif"))

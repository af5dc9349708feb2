"""Pictures with Korean labels: an installed font is used, even a new one; without one there is one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

KOREAN = "배송지연환불"
DRAWING = """
import sys
from reviewtune.core.terminal.entry_point import program
from reviewtune.core.plotting import new_figure, png_of
with program():
    for name in sys.argv[1:]:
        figure, axes = new_figure(3, 2)
        axes.set_xticks(range(6), list("배송지연환불"))
        axes.set_title("배송 지연 – 환불")
        open(name, "wb").write(png_of(figure))
"""


def write_font(path: Path, characters: str) -> None:
    """A font whose characters are all a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"uni{ord(character):04X}" for character in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(name): glyph for name, glyph in zip(characters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Tiny Hangul", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)


Draw = Callable[..., str]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw pictures in a new process of a user with a home folder in tmp_path; returns what it printed."""
    home = {name: str(tmp_path) for name in ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME")}
    environment = {**os.environ, **home, "XDG_DATA_HOME": str(tmp_path / ".local" / "share")}

    def drawn(*names: str) -> str:
        command = [sys.executable, "-c", DRAWING, *(str(tmp_path / name) for name in names)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    return drawn


def test_a_font_that_is_newer_than_matplotlibs_list_is_used(tmp_path: Path, draw: Draw) -> None:
    shown = draw("boxes.png")
    if not shown.splitlines():
        pytest.skip("a font with Korean letters is installed here")
    assert list(tmp_path.glob("fontlist-*.json"))
    write_font(tmp_path / ".local" / "share" / "fonts" / "TinyHangul.ttf", KOREAN)
    assert draw("korean.png") == ""
    assert (tmp_path / "korean.png").read_bytes() != (tmp_path / "boxes.png").read_bytes()


def test_without_a_font_one_line_says_how_to_get_one(draw: Draw) -> None:
    lines = [line for line in draw("a.png", "b.png").splitlines() if "font cache" not in line]
    if not lines:
        pytest.skip("a font with Korean letters is installed here")
    (line,) = lines
    assert "no installed font has all characters of the labels" in line
    assert "apt-get install fonts-noto-cjk" in line

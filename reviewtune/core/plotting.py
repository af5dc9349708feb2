"""The style of all plots: colours, fonts, and PNG bytes that are the same for the same figure.

DVC's plots load their drawing library from the network; these work offline. The colours are those of Okabe and Ito,
which people with any colour vision can distinguish.
"""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from reviewtune.core.fonts import families_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
MARGIN = 0.1  # inches
PERCENT = "{x:.0%}"
TICKS = r"\mathdefault"  # in the formulas that matplotlib itself writes, such as 10² on a logarithmic axis
BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#6E6E6E",
)  # fmt: skip
SERIES = ((GREY, "o"), (ORANGE, "s"), (GREEN, "^"), (PINK, "D"), (BLUE, "*"), (RED, "v"), (SKY, "P"))


def new_figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure of this size in inches, with one axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    return figure, figure.subplots()


def png_of(figure: "Figure") -> bytes:
    """Render the figure as PNG, with one layout and one drawing; `savefig` alone draws a figure with a layout twice."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Text

    texts = figure.findobj(lambda artist: isinstance(artist, Text))
    families = families_for("".join(text.get_text() for text in texts if isinstance(text, Text)))
    for text in texts:
        text.set(fontfamily=families)
        if isinstance(text, Text) and text.get_text() and TICKS not in text.get_text():
            text.set_parse_math(False)  # two `$` in a name are no formula; ticks without a text get theirs later
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # `families_for` has reported it, once instead of per character
        ConstrainedLayoutEngine().execute(figure)
        box = figure.get_tightbbox().padded(MARGIN)
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches=box, metadata={"Software": None})
    return buffer.getvalue()


def open_axes(axes: "Axes", grid: Literal["x", "y", "both"] = "y") -> None:
    """Remove the upper and right border and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)

"""Pictures show names as users write them."""

from reviewtune.core.plotting import new_figure, png_of


def picture(*names: str) -> bytes:
    figure, axes = new_figure(3, 2)
    for height, name in enumerate(names):
        axes.plot([0, 1], [height, height], label=name)
    axes.set_xticks(range(len(names)), names)
    axes.legend()
    return png_of(figure)


def test_dollar_signs_in_a_name_are_no_formula() -> None:
    figure, axes = new_figure(3, 2)
    axes.set_title("$5$")
    png_of(figure)
    assert not axes.title.get_parse_math()
    assert picture(r"from $5 \down to $9")  # which is no formula that matplotlib knows


def test_powers_on_a_logarithmic_axis_stay_formulas() -> None:
    figure, axes = new_figure(3, 2)
    axes.set_xscale("log")
    axes.plot([1, 1000], [1, 2])
    png_of(figure)
    powers = [tick for tick in axes.get_xticklabels() if "$" in tick.get_text()]
    assert powers
    assert all(tick.get_parse_math() for tick in powers)

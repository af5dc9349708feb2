"""Numbers as people read them: percent with their interval, points, p-values, money, rates."""

from collections.abc import Mapping

NONE = "–"


def with_interval(share: Mapping[str, float]) -> str:
    return f"{percent(share['value'])} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def money(dollars: float | None) -> str:
    if dollars is None:
        return NONE
    return f"${dollars:.2f}" if dollars == 0 or dollars >= 1 else f"${dollars:.4f}"


def seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f} s"


def rate(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def change(base: float | None, tuned: float | None) -> str:
    return f"{100 * (tuned / base - 1):+.0f} %".replace("-", "−") if base and tuned is not None else NONE


def times(base: float | None, tuned: float | None) -> str:
    return f"{tuned / base:.1f} x" if base and tuned else NONE

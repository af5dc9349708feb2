"""Numbers that end: at most 15 significant digits, which every program keeps, at most six decimals, and no exponent."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from reviewtune.local_server.engine.types import UnsupportedSchema

DIGITS = 15
DECIMALS = 6
ROUND = 3  # zeros at the end of the largest numbers, which are below 10^18
STEP_DECIMALS = 10  # of `multipleOf`; llguidance cannot count in smaller steps
LARGEST_STEP = 10_000  # of `multipleOf` without its decimals and zeros: larger ones take seconds to compile
KEYWORDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})

Schema = Mapping[str, Any]
Tighter = Callable[[Decimal, Decimal], Decimal]  # max for lower bounds, min for upper ones


class Limits(NamedTuple):
    """The keywords of a schema about its numbers; None where there is none."""

    lower: Decimal | None
    upper: Decimal | None
    above: Decimal | None  # exclusive
    below: Decimal | None
    step: Decimal | None


def bounded_number(kind: str, schema: Schema) -> list[dict[str, Any]]:
    """Schemas of which a number that ends must match one, and which together have the range of the given one.

    Args:
        kind: `number` or `integer`.
        schema: may have the keywords KEYWORDS.

    Raises:
        UnsupportedSchema: a keyword's value is not supported.
    """
    limits = _limits(schema)
    if limits is None:  # llguidance refuses that
        return [{"type": kind, **{name: schema[name] for name in KEYWORDS & schema.keys()}}]
    parts: list[dict[str, Any]] = []
    for decimals in _decimals(kind, limits):
        largest = Decimal(10) ** (DIGITS - decimals)
        if (part := _part(kind, limits, decimals, largest)) is not None:
            parts.append(part)
        if parts and (decimals <= 0 or _is_within(limits, largest)):
            break
    if parts:
        return parts
    name, value = _beyond(limits)
    raise UnsupportedSchema(f"'{name}' of {value:g} is not supported: numbers have at most {DIGITS} digits")


def _limits(schema: Schema) -> Limits | None:
    """The keywords' values; None if one of them is not a number."""
    values = {name: schema[name] for name in KEYWORDS & schema.keys()}
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(values.get(exclusive), bool):  # an older form: whether the other bound is exclusive
            is_exclusive = values.pop(exclusive)
            if is_exclusive and inclusive in values:
                values[exclusive] = values.pop(inclusive)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
        return None
    exact = {name: Decimal(repr(value)) for name, value in values.items()}
    lower, upper = exact.get("minimum"), exact.get("maximum")
    above, below = exact.get("exclusiveMinimum"), exact.get("exclusiveMaximum")
    return Limits(lower, upper, above, below, _step(exact.get("multipleOf")))


def _step(step: Decimal | None) -> Decimal | None:
    if step is None:
        return None
    if step <= 0:
        raise UnsupportedSchema(f"'multipleOf' must be above 0, it is {step:g}")
    digits = int("".join(map(str, step.normalize().as_tuple().digits)))
    if _places(step) > STEP_DECIMALS or digits > LARGEST_STEP:
        reason = f"at most {STEP_DECIMALS} decimals and, without them and zeros at the end, {LARGEST_STEP}"
        raise UnsupportedSchema(f"'multipleOf' of {step:g} is not supported: {reason}")
    return step


def _places(number: Decimal) -> int:
    """How many decimals a number has."""
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def _decimals(kind: str, limits: Limits) -> Iterator[int]:
    """How many decimals to try; below 0 the number ends with zeros."""
    if limits.step is not None:
        yield _places(limits.step)
        return
    yield from range(DECIMALS if kind == "number" else 0, -ROUND - 1, -1)


def _part(kind: str, limits: Limits, decimals: int, largest: Decimal) -> dict[str, Any] | None:
    """Numbers with so many decimals that are smaller than `largest`; None if there are none."""
    lowest = max((value for value in (limits.lower, limits.above) if value is not None), default=-largest)
    highest = min((value for value in (limits.upper, limits.below) if value is not None), default=largest)
    if lowest >= largest or highest <= -largest:
        return None
    part: dict[str, Any] = {"type": kind}
    part |= _bound("minimum", "exclusiveMinimum", limits.lower, limits.above, -largest, max)
    part |= _bound("maximum", "exclusiveMaximum", limits.upper, limits.below, largest, min)
    if limits.step is not None:
        part["multipleOf"] = _json(limits.step)
    elif kind == "number" or decimals < 0:
        part["multipleOf"] = _json(Decimal(10) ** -decimals)
    return part


def _bound(
    name: str, exclusive_name: str, bound: Decimal | None, exclusive: Decimal | None, own: Decimal, tighter: Tighter
) -> dict[str, Any]:
    """The bounds of one side; our own one replaces those that are wider."""
    bounds: dict[str, Any] = {}
    if bound is not None and tighter(bound, own) == bound:
        bounds[name] = _json(bound)
    if exclusive is not None and tighter(exclusive, own) == exclusive:
        bounds[exclusive_name] = _json(exclusive)
    return bounds or {exclusive_name: _json(own)}


def _json(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _is_within(limits: Limits, largest: Decimal) -> bool:
    """Whether all numbers are smaller than `largest`, so that numbers with fewer decimals add nothing."""
    lower = [value for value in (limits.lower, limits.above) if value is not None and value > -largest]
    upper = [value for value in (limits.upper, limits.below) if value is not None and value < largest]
    return bool(lower and upper)


def _beyond(limits: Limits) -> tuple[str, Decimal]:
    """The bound that leaves no number, with its keyword."""
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    bounds = [(name, value) for name, value in zip(names, limits, strict=False) if value is not None]
    return max(bounds, key=lambda bound: abs(bound[1]))

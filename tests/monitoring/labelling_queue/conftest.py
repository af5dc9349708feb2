"""A project whose champion is a linear arm, so that a queue is made in seconds."""

import random

import pytest

from tests.deployment.conftest import evaluated, reviewtune
from tests.support.clones import Clone

__all__ = ["evaluated"]

OPENINGS = {
    "delivery_delay": "The parcel with my {} arrived weeks late, tracking was stuck near {}",
    "damaged_item": "My {} was broken and dented in the box when the man from {} brought it",
    "wrong_item": "I ordered a {} and got another colour, somebody in {} mixed it up",
    "size_fit": "The {} is far too small for me although my sister in {} wears the same size",
    "refund_return": "Still waiting for the refund of the {} that I sent back to {}",
    "no_issue": "Lovely {}, works well, greetings from {}",
}
THINGS = ("lamp", "jacket", "kettle", "backpack", "umbrella", "toaster", "blanket", "mirror", "violin", "bicycle")
PLACES = ("Lisbon", "Oslo", "Krakow", "Dublin", "Seville", "Antwerp", "Malmo", "Turin", "Zagreb", "Nantes", "Leipzig")


def new_reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Different reviews that nobody has labelled, each with the label that a person would give."""
    draw = random.Random(seed)
    made: dict[str, str] = {}
    while len(made) < count:
        label = draw.choice(sorted(OPENINGS))
        words = " ".join(draw.sample(PLACES, 5))
        made[f"{OPENINGS[label].format(draw.choice(THINGS), draw.choice(PLACES))}. {words}."] = label
    return list(made.items())


@pytest.fixture(scope="module")
def promoted(evaluated: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy in which the linear arm is champion, and all is committed."""
    evaluated.home.mkdir(exist_ok=True)
    copy = evaluated.copy(tmp_path_factory.mktemp("promoted") / "project")
    copy.env["PYTHONPATH"] = str(copy.folder)
    reviewtune(copy, "promote", "--arm", "linear")
    copy.commit("frozen sides")
    return copy

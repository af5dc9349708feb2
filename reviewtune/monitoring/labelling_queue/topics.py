"""The new topics of a file, as `reviewtune monitor` finds them, for the labelling queue.

They are searched against all labelled reviews of the project, not only those of the champion's promotion: a topic that
people have labelled meanwhile is not new.
"""

from collections.abc import Sequence

import numpy as np

from reviewtune.deployment.text_features import text_features
from reviewtune.monitoring.labelling_queue.choose import NewTopic
from reviewtune.monitoring.new_topics import MOST_KNOWN, MOST_NEW, SEED, find_topics, typical_words

WORDS = 4  # shown in the column `why`
FEWEST_KNOWN = 20  # labelled reviews; with fewer, nothing says what is usual
HELD_OUT = 1 / 3  # of the labelled reviews: their distances to the others are the usual ones


def new_topics(new: Sequence[str], known: Sequence[str]) -> list[NewTopic]:
    """The new topics, the most significant first.

    Args:
        new: the new reviews.
        known: the labelled reviews.
    """
    draw = np.random.default_rng(SEED)
    labelled = list(dict.fromkeys(known))
    order = draw.permutation(len(labelled))[: MOST_KNOWN + MOST_NEW]
    if len(order) < FEWEST_KNOWN:
        return []
    held_out = int(HELD_OUT * len(order))
    test, training = ([labelled[place] for place in part] for part in (order[:held_out], order[held_out:]))
    search = find_topics(text_features(training), text_features(test), text_features(new))
    return [_topic(group.members, new) for group in search.groups] if search else []


def _topic(members: tuple[int, ...], new: Sequence[str]) -> NewTopic:
    inside = set(members)
    others = [text for place, text in enumerate(new) if place not in inside]
    return NewTopic(typical_words([new[place] for place in members], others)[:WORDS], members)

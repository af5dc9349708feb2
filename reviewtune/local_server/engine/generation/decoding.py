"""One answer while it is generated: its tokens, the choice of the next one, and its end."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reviewtune.local_server.engine.generation.call_reader import CallReader
from reviewtune.local_server.engine.generation.constrained_decoding import Constraint
from reviewtune.local_server.engine.generation.text_stream import TextStream
from reviewtune.local_server.engine.types import FinishReason, Generation, GenerationRequest, TokenLogprob

MIN_TEMPERATURE = 1e-4  # a lower temperature differs from 0 only by overflows
BLOCK = 512  # scores that are searched together
MIN_LOGPROB = -9999.0  # what OpenAI reports for a log-probability that JSON cannot represent

ToBytes = Callable[[Sequence[int]], bytes]  # tokens -> UTF-8


@dataclass(slots=True)
class AnswerInProgress:
    """One choice of a request.

    Attributes:
        request: what to answer.
        constraint: which tokens may follow.
        ends: tokens that end an answer.
        limit: maximal number of tokens.
        to_bytes: converts tokens to UTF-8.
        random: the source of random numbers.
        unread: tokens that the network has not processed yet; the next token follows the last of them.
        stream: reports the text while it is generated.
        reader: finds the calls of functions in the text, if the answer may contain some.
        tokens: the answer so far.
        logprobs: the log-probabilities of its tokens so far.
        prompt_logprobs: those of the prompt's tokens so far, without the first, if the request wants them.
        finish: why it ended, None while it has not.
    """

    request: GenerationRequest
    constraint: Constraint
    ends: frozenset[int]
    limit: int
    to_bytes: ToBytes
    random: torch.Generator
    unread: list[int]
    stream: TextStream | None = None
    reader: CallReader | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None

    def begin(self) -> None:
        """Take the tokens that the constraint forces at the beginning."""
        self._extend(self.constraint.forced())
        self._report()

    @property
    def waiting(self) -> bool:
        """Whether the network must run: for the next token, or for the log-probabilities of tokens taken already."""
        return self.finish is None or self._unscored > 0 or self._prompt_waits

    def states_to_score(self, read: int) -> int:
        """How many of the last hidden states of the next `read` tokens need the scores of the whole vocabulary."""
        if self._prompt_waits:
            return read
        later = len(self.unread) - read
        if self.request.logprobs:
            return max(0, self._unscored + 1 - later)
        return 0 if self.constraint.few or later else 1

    def advance(self, hidden: Tensor, scores: Tensor, head: Tensor) -> None:
        """Continue after the network has processed unread tokens.

        Args:
            hidden: hidden states of these tokens, [tokens, width].
            scores: scores of all tokens of the vocabulary for the last `states_to_score` of them.
            head: the output matrix, [vocabulary, width].
        """
        if self._prompt_waits:
            self.prompt_logprobs += self._scored(scores, self.unread[1 : len(hidden) + 1])
        self.unread = self.unread[len(hidden) :]
        if self.request.logprobs:
            self.logprobs += self._scored(scores, self.tokens[len(self.logprobs) :])
        if self.finish is None and not self.unread:
            few = self.constraint.allowed() if self.constraint.few else None
            token = self._best_allowed(scores)
            self._take(self._choice(few, hidden[-1], scores, head) if token is None else token)
            if self.request.logprobs:
                self.logprobs += self._scored(scores[-1:], self.tokens[len(self.logprobs) :][:1], few)
        self._report()

    def generation(self) -> Generation:
        text = self._text()
        for stop in self.request.stop:
            text = text.split(stop, 1)[0]
        text, calls = self.reader.complete(text) if self.reader else (text, ())
        scores = tuple(self.logprobs), tuple(self.prompt_logprobs)
        return Generation(text, self.finish or "length", len(self.tokens), scores[0], calls, scores[1])

    @property
    def _unscored(self) -> int:
        return len(self.tokens) - len(self.logprobs) if self.request.logprobs else 0

    @property
    def _prompt_waits(self) -> bool:
        """Whether tokens of the prompt have no log-probability yet, but are to have one."""
        return self.request.score_prompt and not self.tokens and len(self.unread) > 1

    def _best_allowed(self, scores: Tensor) -> int | None:
        """The most likely token, if the request wants exactly that and the constraint permits it.

        This avoids computing all permitted tokens.
        """
        plain = self.request.temperature == 0 and not self.constraint.few and not self._shifts()
        best = int(scores[-1].argmax()) if plain else None
        return best if best is not None and self.constraint.permits(best) else None

    def _choice(self, few: Tensor | None, hidden: Tensor, scores: Tensor, head: Tensor) -> int:
        """Choose one of the tokens that may follow; if they are few, compute only their scores."""
        allowed = self.constraint.allowed() if few is None else few
        if few is not None:
            candidates = head[few].float() @ hidden.float()  # in bf16 two labels would often be equally likely
        else:
            candidates = scores[-1] if allowed is None else scores[-1][allowed]
        index = self._pick(self._shifted(candidates, allowed, len(head)))
        return index if allowed is None else int(allowed[index])

    def _shifts(self) -> dict[int, float]:
        """What to add to scores: the client's bias, and - count * frequency_penalty - presence_penalty."""
        shifts = dict(self.request.logit_bias)
        if self.request.frequency_penalty or self.request.presence_penalty:
            for token, count in Counter(self.tokens).items():
                penalty = count * self.request.frequency_penalty + self.request.presence_penalty
                shifts[token] = shifts.get(token, 0.0) - penalty
        return shifts

    def _shifted(self, scores: Tensor, allowed: Tensor | None, vocabulary: int) -> Tensor:
        shifts = self._shifts()
        if not shifts:
            return scores
        shift = torch.zeros(vocabulary)
        shift[list(shifts)] = torch.tensor(list(shifts.values()), dtype=shift.dtype)
        return scores + (shift if allowed is None else shift[allowed.cpu()]).to(scores.device)

    def _take(self, token: int) -> None:
        if token in self.ends:
            self.finish = "stop"
            return
        self.constraint.advance(token)
        self._extend([token, *self.constraint.forced()])

    def _pick(self, scores: Tensor) -> int:
        if self.request.temperature == 0:
            return int(scores.argmax())
        probabilities = (scores / max(self.request.temperature, MIN_TEMPERATURE)).softmax(-1).cpu()
        if self.request.top_p < 1:
            probabilities = _nucleus(probabilities, self.request.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self.random))

    def _extend(self, tokens: list[int]) -> None:
        """Append tokens up to the first end: an end-of-turn token, a stop text, or the limit."""
        for token in tokens:
            if self.finish is None:
                self._append(token)
        if self.finish is None and self.constraint.complete:
            self.finish = "stop"
        elif self.finish is None and len(self.tokens) == self.limit:
            self.finish = "length"

    def _append(self, token: int) -> None:
        if token in self.ends or len(self.tokens) == self.limit:
            self.finish = "stop" if token in self.ends else "length"
            return
        self.tokens.append(token)
        self.unread.append(token)
        if self.request.stop and any(stop in self._text() for stop in self.request.stop):
            self.finish = "stop"

    def _text(self) -> str:
        return self.to_bytes(self.tokens).decode(errors="replace")

    def _report(self) -> None:
        """Report new text; if log-probabilities are requested, only of tokens that have one."""
        if self.stream is not None:
            ready = self.tokens[: len(self.logprobs)] if self.request.logprobs else self.tokens
            self.stream.report(self.to_bytes(ready[self.stream.reported :]), len(ready), self.logprobs)

    def _scored(self, scores: Tensor, tokens: Sequence[int], allowed: Tensor | None = None) -> Iterator[TokenLogprob]:
        for row, token in zip(scores, tokens, strict=False):
            logprobs = row.log_softmax(-1)
            listed = _listed(logprobs, self.request.top_logprobs, allowed)
            value, *values = logprobs[[token, *listed]].tolist()  # at once: a GPU would stop for each number
            top = tuple(map(self._logprob, listed, values))
            yield self._logprob(token, value, top)

    def _logprob(self, token: int, value: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        content = self.to_bytes([token])
        value = max(value, MIN_LOGPROB)
        return TokenLogprob(content.decode(errors="replace"), value, tuple(content), top)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probabilities add up to at least top_p."""
    ordered, tokens = probabilities.sort(descending=True, stable=True)  # of equal ones the first, as argmax takes
    kept = ordered.cumsum(-1) - ordered < top_p
    kept[0] = True  # even if top_p is 0
    return torch.zeros_like(probabilities).scatter(-1, tokens[kept], ordered[kept])


def _listed(logprobs: Tensor, count: int, allowed: Tensor | None) -> list[int]:
    """The most likely tokens, best first; if few are allowed, the list contains all of these.

    The values are those of the unconstrained model, so they also show how likely it found other tokens. But a client
    compares the answers that it allowed, and a base model may find 20 other tokens more likely than a label.
    """
    tokens: list[int] = _best(logprobs, count).tolist()
    if allowed is not None and len(allowed) <= count:
        required: list[int] = allowed.tolist()
        tokens = [*required, *(token for token in tokens if token not in required)][:count]
    values = dict(zip(tokens, logprobs[tokens].tolist(), strict=True))
    return sorted(tokens, key=lambda token: -values[token])


def _best(values: Tensor, count: int) -> Tensor:
    """Indices of the largest values, from the blocks with the largest maxima: less than half the time of `topk`."""
    whole = len(values) // BLOCK
    if whole <= count:
        return values.topk(count).indices
    blocks = values[: whole * BLOCK].view(whole, BLOCK)
    leading = blocks.amax(1).topk(count).indices
    best = torch.cat((blocks[leading].flatten(), values[whole * BLOCK :])).topk(count).indices
    starts = torch.cat((leading, leading.new_tensor([whole]))) * BLOCK  # the last one: of the incomplete block
    return starts[best // BLOCK] + best % BLOCK

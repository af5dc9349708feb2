"""One answer in the making: its tokens so far, what may follow, and when it ends."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reviewtune.local_server.engine.generation.constrained_decoding import Constraint
from reviewtune.local_server.engine.generation.text_stream import TextStream
from reviewtune.local_server.engine.types import FinishReason, Generation, GenerationRequest, TokenLogprob

COLDEST = 1e-4  # below, a temperature differs from 0 in overflows only
BLOCK = 512  # words that are searched together
UNLIKELIEST = -9999.0  # what OpenAI says for a log-probability that JSON has no number for

Spell = Callable[[Sequence[int]], bytes]  # tokens as UTF-8


@dataclass(slots=True)
class AnswerInProgress:
    """`unread` are the tokens that the network has yet to see; the last of them is what the next one follows."""

    request: GenerationRequest
    constraint: Constraint
    ends: frozenset[int]  # tokens that end a turn
    limit: int  # tokens of the answer
    spell: Spell
    dice: torch.Generator
    unread: list[int]
    narrator: TextStream | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None

    def begin(self) -> None:
        self._put(self.constraint.forced())
        self._tell()

    @property
    def waiting(self) -> bool:
        """The network must read on: for the next token, or for the log-probability of tokens put down already."""
        return self.finish is None or self._unscored > 0

    def compared(self, read: int) -> int:
        """How many hidden states, the last ones of the next `read` tokens, are to be held against all words."""
        later = len(self.unread) - read
        if self.request.logprobs:
            return max(0, self._unscored + 1 - later)
        return 0 if self.constraint.few or later else 1

    def go_on(self, hidden: Tensor, scores: Tensor, head: Tensor) -> None:
        """Take what the network made of the next unread tokens, and the scores of all words for the compared ones."""
        self.unread = self.unread[len(hidden) :]
        if self.request.logprobs:
            self._score(scores, self.tokens[len(self.logprobs) :])
        if self.finish is None and not self.unread:
            few = self.constraint.allowed() if self.constraint.few else None
            token = self._favourite(scores)
            self._take(self._choice(few, hidden[-1], scores, head) if token is None else token)
            if self.request.logprobs:
                self._score(scores[-1:], self.tokens[len(self.logprobs) :][:1], few)
        self._tell()

    def generation(self) -> Generation:
        text = self._text()
        for stop in self.request.stop:
            text = text.split(stop, 1)[0]
        return Generation(text, self.finish or "length", len(self.tokens), tuple(self.logprobs))

    @property
    def _unscored(self) -> int:
        return len(self.tokens) - len(self.logprobs) if self.request.logprobs else 0

    def _favourite(self, scores: Tensor) -> int | None:
        """The likeliest word of all, where just that is asked for and it may follow: no need to sort out the others."""
        plain = self.request.temperature == 0 and not self.constraint.few and not self._shifts()
        favourite = int(scores[-1].argmax()) if plain else None
        return favourite if favourite is not None and self.constraint.permits(favourite) else None

    def _choice(self, few: Tensor | None, hidden: Tensor, scores: Tensor, head: Tensor) -> int:
        """One of the words that may follow. Few of them are held against the state themselves."""
        words = self.constraint.allowed() if few is None else few
        if few is not None:
            found = head[few].float() @ hidden.float()  # in bf16 two labels would often be equally likely
        else:
            found = scores[-1] if words is None else scores[-1][words]
        at = self._pick(self._shifted(found, words, len(head)))
        return at if words is None else int(words[at])

    def _shifts(self) -> dict[int, float]:
        """The client's bias, and the penalties: - count * frequency_penalty - presence_penalty."""
        shifts = dict(self.request.logit_bias)
        if self.request.frequency_penalty or self.request.presence_penalty:
            for token, count in Counter(self.tokens).items():
                penalty = count * self.request.frequency_penalty + self.request.presence_penalty
                shifts[token] = shifts.get(token, 0.0) - penalty
        return shifts

    def _shifted(self, scores: Tensor, words: Tensor | None, vocabulary: int) -> Tensor:
        shifts = self._shifts()
        if not shifts:
            return scores
        shift = torch.zeros(vocabulary)
        shift[list(shifts)] = torch.tensor(list(shifts.values()), dtype=shift.dtype)
        return scores + (shift if words is None else shift[words.cpu()]).to(scores.device)

    def _take(self, token: int) -> None:
        if token in self.ends:
            self.finish = "stop"
            return
        self.constraint.advance(token)
        self._put([token, *self.constraint.forced()])

    def _pick(self, scores: Tensor) -> int:
        if self.request.temperature == 0:
            return int(scores.argmax())
        shares = (scores / max(self.request.temperature, COLDEST)).softmax(-1).cpu()
        if self.request.top_p < 1:
            shares = _nucleus(shares, self.request.top_p)
        return int(torch.multinomial(shares, 1, generator=self.dice))

    def _put(self, tokens: list[int]) -> None:
        """Append, up to whatever ends the answer first: its turn, a stop text, or the limit."""
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
        return self.spell(self.tokens).decode(errors="replace")

    def _tell(self) -> None:
        """Let the listener hear what is new, as far as it is scored where scores are wanted."""
        if self.narrator is not None:
            known = self.tokens[: len(self.logprobs)] if self.request.logprobs else self.tokens
            self.narrator.tell(self.spell(known[self.narrator.told :]), len(known), self.logprobs)

    def _score(self, scores: Tensor, tokens: Sequence[int], allowed: Tensor | None = None) -> None:
        for row, token in zip(scores, tokens, strict=False):
            logprobs = row.log_softmax(-1)
            listed = _listed(logprobs, self.request.top_logprobs, allowed)
            top = tuple(self._logprob(word, float(logprobs[word])) for word in listed)
            self.logprobs.append(self._logprob(token, float(logprobs[token]), top))

    def _logprob(self, token: int, value: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        spelt = self.spell([token])
        value = max(value, UNLIKELIEST)
        return TokenLogprob(spelt.decode(errors="replace"), value, tuple(spelt), top)


def _nucleus(shares: Tensor, top_p: float) -> Tensor:
    """Only the likeliest words, as few as together have at least top_p."""
    ordered, words = shares.sort(descending=True)
    kept = ordered.cumsum(-1) - ordered < top_p
    kept[0] = True  # also for a top_p of 0
    return torch.zeros_like(shares).scatter(-1, words[kept], ordered[kept])


def _listed(logprobs: Tensor, count: int, allowed: Tensor | None) -> list[int]:
    """The likeliest words, best first; where few are allowed, all of those are among them.

    Values are the unmasked model's, so they say how much it wanted another word; but what a client weighs against each
    other are the answers that it allowed, and an un-tuned model may find 20 other words likelier than a label.
    """
    words: list[int] = _best(logprobs, count).tolist()
    if allowed is not None and len(allowed) <= count:
        wanted: list[int] = allowed.tolist()
        words = [*wanted, *(word for word in words if word not in wanted)][:count]
    return sorted(words, key=lambda word: -float(logprobs[word]))


def _best(values: Tensor, count: int) -> Tensor:
    """Where the largest are: in the blocks with the largest maxima, in less than half the time of one long search."""
    whole = len(values) // BLOCK
    if whole <= count:
        return values.topk(count).indices
    blocks = values[: whole * BLOCK].view(whole, BLOCK)
    leading = blocks.amax(1).topk(count).indices
    found = torch.cat((blocks[leading].flatten(), values[whole * BLOCK :])).topk(count).indices
    starts = torch.cat((leading, leading.new_tensor([whole]))) * BLOCK  # the last: of what fills no block
    return starts[found // BLOCK] + found % BLOCK

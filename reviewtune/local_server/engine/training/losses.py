"""Cross-entropy of the trained tokens, without ever holding the logits of a whole prompt.

A vocabulary of 262,144 words makes the last matrix product the dearest part of a small model: it is done at trained
positions only, a few at a time, and the gradient is taken in the same pass, so that no logits outlive their chunk.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 160  # positions whose logits are held at a time: 170 MB of them for 262,144 words
NEGLIGIBLE = 1e-6  # a word that no position of a chunk deems likelier than this leaves no gradient


class TokenLoss(NamedTuple):
    """Sums over tokens, so that batches of any size can be added up."""

    loss: Tensor  # nats
    correct: Tensor  # tokens that the model would have chosen itself


def token_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> TokenLoss:
    """Args: hidden states [n, width] at trained positions, the output matrix [words, width], the right words [n]."""
    return TokenLoss(*_FrozenHeadLoss.apply(hidden, weight, targets))  # type: ignore[no-untyped-call]


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        loss, correct = hidden.new_zeros((), dtype=torch.float32), targets.new_zeros(())
        for first in range(0, len(hidden), CHUNK):
            rows = slice(first, first + CHUNK)
            logits = (hidden[rows] @ weight.T).float()
            wanted = targets[rows, None]
            found = logits.gather(1, wanted)
            log_total = logits.logsumexp(-1, keepdim=True)
            loss += (log_total - found).sum()
            correct += (found == logits.amax(-1, keepdim=True)).sum()  # argmax would take four times as long
            if gradient is not None:
                gradient[rows] = _gradient(logits.sub_(log_total), weight, wanted)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return ctx.saved_tensors[0] * outer[0], None, None


def _gradient(log_probabilities: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
    """(softmax - one-hot) @ weight, over the words that matter."""
    likely = log_probabilities.amax(0) > torch.tensor(NEGLIGIBLE).log()
    likely[wanted[:, 0]] = True
    words = likely.nonzero()[:, 0]
    push = log_probabilities[:, words].exp()
    push[torch.arange(len(push)), torch.searchsorted(words, wanted[:, 0])] -= 1
    return push.to(weight.dtype) @ weight[words]

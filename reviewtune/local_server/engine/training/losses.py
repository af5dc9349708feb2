"""Cross-entropy of the trained tokens, without storing the logits of a whole prompt.

With a vocabulary of 262,144 tokens the last matrix product is the most expensive part of a small model. It is computed
only at trained positions, a few at a time, and the gradient in the same pass, so that only one chunk's logits exist.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 160  # positions whose logits exist at a time: 170 MB for 262,144 tokens
NEGLIGIBLE = 1e-6  # a token that is less likely than this at every position of a chunk gets no gradient
FEW = 1 / 8  # share of the vocabulary: copying more rows of the output matrix takes longer than multiplying all


class TokenLoss(NamedTuple):
    """Sums over tokens, so that batches of different sizes can be added."""

    loss: Tensor  # nats
    correct: Tensor  # number of tokens that were the most likely ones


def token_loss(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0) -> TokenLoss:
    """Cross-entropy and accuracy.

    Args:
        hidden: hidden states [n, width] at trained positions.
        weight: the output matrix [vocabulary, width], which is not trained.
        targets: the correct tokens [n].
        smoothing: share in [0, 1) of the target probability that is spread evenly over the vocabulary (Szegedy et al.,
            CVPR 2016, section 7). It changes the gradient only; the loss is the cross-entropy with the correct tokens.
    """
    return TokenLoss(*_FrozenHeadLoss.apply(hidden, weight, targets, smoothing))  # type: ignore[no-untyped-call]


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        loss, correct = hidden.new_zeros((), dtype=torch.float32), targets.new_zeros(())
        for first in range(0, len(hidden), CHUNK):
            rows = slice(first, first + CHUNK)
            logits = (hidden[rows] @ weight.T).float()
            correct_tokens = targets[rows, None]
            target_logits = logits.gather(1, correct_tokens)
            log_total = logits.logsumexp(-1, keepdim=True)
            loss += (log_total - target_logits).sum()
            correct += (target_logits == logits.amax(-1, keepdim=True)).sum()  # argmax would take four times as long
            if gradient is not None:
                gradient[rows] = _gradient(logits.sub_(log_total), weight, correct_tokens, 1 - smoothing)
        if gradient is not None and smoothing:
            gradient -= (smoothing * weight.mean(0, dtype=torch.float32)).to(gradient.dtype)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        return ctx.saved_tensors[0] * outer[0], None, None, None


def _gradient(log_probabilities: Tensor, weight: Tensor, targets: Tensor, share: float) -> Tensor:
    """(softmax - share * one-hot) @ weight, over the tokens that are not negligible, if these are few.

    It may overwrite the log-probabilities.
    """
    likely = log_probabilities.amax(0) > torch.tensor(NEGLIGIBLE).log()
    likely[targets[:, 0]] = True
    tokens = likely.nonzero()[:, 0]
    if len(tokens) > FEW * len(weight):
        difference = log_probabilities.exp_()
        difference[torch.arange(len(difference)), targets[:, 0]] -= share
        return difference.to(weight.dtype) @ weight
    difference = log_probabilities[:, tokens].exp()
    difference[torch.arange(len(difference)), torch.searchsorted(tokens, targets[:, 0])] -= share
    return difference.to(weight.dtype) @ weight[tokens]

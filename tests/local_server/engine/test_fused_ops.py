"""Fused operations give the results of transformers' own modules."""

import pytest
import torch
from transformers.activations import GELUTanh
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from reviewtune.local_server.engine.fused_ops import dropout, fuse_operations


class Network(torch.nn.Module):
    def __init__(self, part: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.part, self.dtype = part.to(dtype), dtype


def states(dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(3, 7, 640) * torch.logspace(-2, 2, 7)[None, :, None]).to(dtype).requires_grad_()


@pytest.mark.parametrize("norm", [Gemma3RMSNorm, LlamaRMSNorm, Qwen2RMSNorm])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_norms_equal_transformers_own(norm: type[torch.nn.Module], dtype: torch.dtype, near: float) -> None:
    network = Network(norm(640), dtype)
    weight = network.part.get_parameter("weight")
    torch.nn.init.normal_(weight, 0.5, 0.1)
    outer = torch.randn(3, 7, 640).to(dtype)
    own = network.part(states(dtype))
    (expected,) = torch.autograd.grad(own, [weight], outer)
    fuse_operations(network)
    fused = network.part(states(dtype))
    (gradient,) = torch.autograd.grad(fused, [weight], outer)
    torch.testing.assert_close(fused, own, rtol=near, atol=near)
    torch.testing.assert_close(gradient, expected, rtol=near, atol=10 * near)


def test_the_bf16_gelu_equals_the_tanh_one_up_to_rounding() -> None:
    network, state = Network(GELUTanh(), torch.bfloat16), states(torch.bfloat16)
    own = network.part(state)
    fuse_operations(network)
    torch.testing.assert_close(network.part(state), own, rtol=0.008, atol=2e-3)


@pytest.mark.parametrize("part", [GELUTanh(), Phi3RMSNorm(640)])
def test_other_modules_are_not_replaced(part: torch.nn.Module) -> None:
    network = Network(part, torch.float32)
    fuse_operations(network)
    assert "forward" not in vars(network.part)


@pytest.mark.parametrize("shape", [(3, 41, 640), (5,)])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    state = torch.ones(shape, requires_grad=True)
    result = dropout(state, 0.1)
    (gradient,) = torch.autograd.grad(result.sum(), state)
    torch.testing.assert_close(gradient, result)  # the same values are left out on the way back
    assert len(set(result.flatten().tolist())) <= 2
    if result.numel() > 1000:
        assert (result == 0).float().mean().item() == pytest.approx(0.1, abs=0.005)
        assert result.mean().item() == pytest.approx(1, abs=0.01)
        rows = (result == 0).flatten(0, -2).float()
        assert rows.mean(0).max() < 0.3  # no column, such as every eighth, is left out more often

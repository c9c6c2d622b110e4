"""Adam for both networks: its learning rate, and its state from a checkpoint."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from musicspectrogan.errors import UserError

# Learning rates of the recommended recipes at two widths; docs/recipes.md has the measurements.
NARROW = 16, 5e-4
WIDE = 64, 2e-4


def learning_rate_for(width: float) -> float:
    """Learning rate of the recommended recipes for networks of that width.

    The logarithm of the rate is linear in that of the width, through 5e-4 at 16 and 2e-4 at 64;
    narrower and wider networks continue the line. Rounded to three digits.
    """
    (narrow, high), (wide, low) = NARROW, WIDE
    slope = math.log(low / high) / math.log(wide / narrow)
    return float(f"{high * (width / narrow) ** slope:.2e}")


def make_adam(
    network: nn.Module, lr: float, betas: tuple[float, float], *, capturable: bool = False
) -> torch.optim.Adam:
    """Adam over a network's weights, which are on their device already.

    Args:
        capturable: keep its counts and its learning rate on the device, as recording a CUDA graph
            needs.
    """
    weights = list(network.parameters())
    rate = torch.tensor(lr, device=weights[0].device) if capturable else lr
    # The fused update is one kernel for all weights; on a CPU it saves a pass over each of them.
    return torch.optim.Adam(weights, lr=rate, betas=betas, fused=True, capturable=capturable)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of all groups, in place where a recorded step reads it from the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


@torch.no_grad()
def load_adam(optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
    """Load a state_dict's moments, which may come from another device; the settings stay.

    Raises:
        UserError: it is damaged, or of another network.
    """
    moments = state.get("state")
    _check_moments(optimizer, moments)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for weight, of_weight in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            # The fused update runs through memory, which other devices lay out differently.
            of_weight[name] = torch.empty_like(weight).copy_(of_weight[name])


def _check_moments(optimizer: torch.optim.Adam, moments: Any) -> None:
    """Raise UserError unless these are Adam's moments of (some of) the optimizer's weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    try:
        for number, of_weight in moments.items():
            shape = weights[number].shape
            expected = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
            shapes = {name: tensor.shape for name, tensor in of_weight.items()}
            finite = all(tensor.isfinite().all() for tensor in of_weight.values())
            if number < 0 or shapes != expected or not finite:
                raise ValueError(number)
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
        raise UserError(
            "the state of the optimizers is damaged; start a new run with --init-from instead of "
            "--resume"
        ) from None

"""The yardstick of chains: what someone who knows PyTorch well writes by hand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from contestants import Step
from contestants.chain_nets import Nets, batches
from problem import Chain

__all__ = ["eager"]


class DeepMarkov(Nets):
    """Called with pieces, it returns -ELBO: only the states are drawn one by one."""

    def forward(self, x: Tensor, turned: Tensor, mask: Tensor) -> Tensor:
        """Return nats per piece."""
        read = self.read(turned, mask)
        z, found = self.guided.expand(len(x), -1), []
        for one in read.unbind(1):
            mean, scale = self.combiner(z, one)
            z = mean + scale * torch.randn_like(mean)
            found.append((z, mean, scale))
        states, means, scales = (torch.stack(part, 1) for part in zip(*found, strict=True))
        first = self.first.expand(len(x), 1, -1)
        prior = Normal(*self.transition(torch.cat((first, states[:, :-1]), 1)))
        kl = kl_divergence(Normal(means, scales), prior).sum(2)
        seen = binary_cross_entropy_with_logits(self.emitter(states), x, reduction="none").sum(2)
        return ((kl + seen) * mask).sum() / len(x)


def eager(chain: Chain) -> Step:
    """Plain eager PyTorch with fused Adam."""
    torch.distributions.Distribution.set_default_validate_args(False)
    model, of = DeepMarkov(chain), batches(chain)
    optimizer = torch.optim.Adam(model.parameters(), lr=chain.lr, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model(*next(of))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step

"""Variational bound of the process, in bits per dimension; a diagnostic, not used in training. Ho et al. 2020, §2-3."""

import math

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, Diffusion, EditX0

LOG_2 = math.log(2.0)


def normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor | float, log_var2: Tensor | float) -> Tensor:
    """KL(N1 ‖ N2) of diagonal Gaussians, entry by entry, in nats."""
    log_var1, log_var2 = (torch.as_tensor(v, dtype=mean1.dtype, device=mean1.device) for v in (log_var1, log_var2))
    squared = (mean1 - mean2) ** 2
    return 0.5 * (-1.0 + log_var2 - log_var1 + torch.exp(log_var1 - log_var2) + squared * torch.exp(-log_var2))


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor, half_width: float = 1 / 255) -> Tensor:
    """Log-probability that N(mean, exp(log_scale)²) falls into the bin of width 2·half_width around x.

    The outermost bins, beyond ±0.999, reach to infinity. The normal CDF is the tanh approximation of the originals.
    """
    centred = x - mean
    inverse = torch.exp(-log_scale)
    above, below = _normal_cdf(inverse * (centred + half_width)), _normal_cdf(inverse * (centred - half_width))
    inner = torch.log((above - below).clamp(min=1e-12))
    left, right = torch.log(above.clamp(min=1e-12)), torch.log((1.0 - below).clamp(min=1e-12))
    return torch.where(x < -0.999, left, torch.where(x > 0.999, right, inner))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def vlb_terms(diffusion: Diffusion, denoise: Denoise, x0: Tensor, x: Tensor, t: Tensor,
              edit_x0: EditX0 | None = None) -> tuple[Tensor, Tensor]:
    """Term (B,) of the bound at step t in bits per dimension, and the predicted x0.

    KL(q(x_{t−1} | x_t, x_0) ‖ p) for t > 0, the discretised negative log-likelihood of x0 at t = 0.
    """
    reverse = diffusion.p_mean_variance(denoise, x, t, edit_x0)
    log_variance = diffusion.at("posterior_log_variance_clipped", t, x)
    kl = normal_kl(diffusion.q_posterior_mean(x0, x, t), log_variance, reverse.mean, reverse.log_variance)
    log_scale = 0.5 * torch.as_tensor(reverse.log_variance, dtype=x.dtype, device=x.device)
    nll = -discretised_log_likelihood(x0, reverse.mean, log_scale)
    at_zero = (t == 0).reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(at_zero, nll, kl).flatten(1).mean(1) / LOG_2, reverse.x0


def prior_bpd(diffusion: Diffusion, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) ‖ N(0, 1)) (B,) in bits per dimension: what is left of x0 at the last step."""
    last = torch.full((x0.shape[0],), diffusion.num_timesteps - 1, device=x0.device)
    mean = diffusion.at("sqrt_alphas_cumprod", last, x0) * x0
    log_variance = diffusion.at("log_one_minus_alphas_cumprod", last, x0)
    return normal_kl(mean, log_variance, 0.0, 0.0).flatten(1).mean(1) / LOG_2

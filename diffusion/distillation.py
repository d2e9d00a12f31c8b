"""Objective by which a network learns to go in one step where its teacher goes in many: consistency distillation.

Song et al. 2023 (Algorithm 2), of guided diffusion as in Luo et al. 2023 (latent consistency models, Algorithm 1).
"""

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, Diffusion
from diffusion.losses import masked_l2
from diffusion.samplers import consistency_x0, ddim_update

HUBER = 1e-3  # of the root mean square error, below which the loss is quadratic


def consistency_loss(student: Denoise, teacher: Denoise, x0: Tensor, k: Tensor, noise: Tensor, mask: Tensor,
                     ladder: Diffusion) -> dict[str, Tensor]:
    """Terms (B,): from x at rung k (B,) of `ladder`, 1 or more, the student should end where it ends one rung below.

    Down that rung goes the teacher, guided, by a step of DDIM; `ladder` is the teacher's diffusion respaced, with step 0, where
    the student stands still. The lower end is the student itself without gradient, not a slow average of it: simpler, and at
    least as good (Song & Dhariwal 2024, §3.2). "loss" is the pseudo-Huber distance of a whole sample (its Eq. 8, per number):
    so calm and lively motion, high and low rungs pull alike.
    """
    x = ladder.q_sample(x0, k, noise)
    with torch.no_grad():
        below, _ = ddim_update(ladder, x, ladder.predict_x0(teacher, x, k), k)
        end = consistency_x0(student, below, ladder, k - 1)
    error = masked_l2(consistency_x0(student, x, ladder, k), end, mask)
    return {"loss": (error + HUBER**2).sqrt() - HUBER, "squared_error": error.detach()}

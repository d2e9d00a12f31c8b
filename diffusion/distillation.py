"""Objective by which a network learns to go in one step where its teacher goes in many: consistency distillation.

Song et al. 2023 (Algorithm 2), of guided diffusion as in Luo et al. 2023 (latent consistency models, Algorithm 1).
"""

import torch
from torch import Tensor

from diffusion.gaussian import Denoise, Diffusion
from diffusion.losses import masked_l2
from diffusion.samplers import consistency_x0, ddim_update

HUBER = 0.1  # root mean square error below which the loss is quadratic, of data of unit variance


def consistency_loss(student: Denoise, teacher: Denoise, x0: Tensor, k: Tensor, noise: Tensor, mask: Tensor,
                     steps: Diffusion, down: int = 1) -> dict[str, Tensor]:
    """Terms (B,): from x at step k (B,) the student should end where it ends `down` steps, at most k, nearer to the data.

    There the teacher, guided, brings it, by as many steps of DDIM; `steps` are those of the teacher's diffusion respaced, with 0,
    where the student stands still. The nearer end is the student itself without gradient, not a slow average of it: simpler, and
    at least as good (Song & Dhariwal 2024, §3.2). "loss" is the pseudo-Huber distance of a whole sample (its Eq. 8, per
    number), quadratic much farther than the published 0.00054: with that, parts that have long been learnt pull as hard as the
    part next to the data, on which all others stand.
    """
    x = steps.q_sample(x0, k, noise)
    with torch.no_grad():
        nearer = x
        for step in range(down):
            nearer, _ = ddim_update(steps, nearer, steps.predict_x0(teacher, nearer, k - step), k - step)
        end = consistency_x0(student, nearer, steps, k - down)
    error = masked_l2(consistency_x0(student, x, steps, k), end, mask)
    return {"loss": (error + HUBER**2).sqrt() - HUBER, "squared_error": error.detach()}

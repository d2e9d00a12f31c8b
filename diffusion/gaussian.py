"""The Gaussian diffusion process in closed form: schedules of noise and respacing, tables, forward noise, posterior, and what a
network's output means.

Follows Ho et al. 2020 and Nichol & Dhariwal 2021 as implemented in guided-diffusion, on which MDM stands. `x` may have
any shape (B, ...); a step `t` is an int, the same for the whole batch, or a tensor (B,), and counts the kept steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x (B, ...), original step (B,)) -> the network's prediction
EditX0 = Callable[[Tensor], Tensor]
Step = int | Tensor
Prediction = Literal["x0", "eps", "v", "previous_x"]
Variance = Literal["fixed_small", "fixed_large", "learned", "learned_range"]


@dataclass(frozen=True)
class Reverse:
    """What p(x_{t−1} | x_t) is: mean, variance, log_variance (broadcastable to x) and the x0 it stands on."""

    mean: Tensor
    variance: Tensor | float
    log_variance: Tensor | float
    x0: Tensor


class Diffusion:
    """A noising process of T steps and its float64 tables; `timestep_map` holds the original index of each kept step.

    Attributes of shape (T,): betas, alphas_cumprod, alphas_cumprod_prev, alphas_cumprod_next, sqrt_alphas_cumprod,
    sqrt_one_minus_alphas_cumprod, log_one_minus_alphas_cumprod, sqrt_recip_alphas_cumprod,
    sqrt_recipm1_alphas_cumprod, snr, posterior_variance, posterior_log_variance_clipped, posterior_mean_coef1 (of x0),
    posterior_mean_coef2 (of x_t).
    """

    def __init__(self, betas: np.ndarray, prediction: Prediction = "x0", variance: Variance = "fixed_small",
                 timestep_map: Sequence[int] | None = None, channel_axis: int = -1):
        betas = np.asarray(betas, dtype=np.float64)
        if betas.ndim != 1 or not len(betas):
            raise ValueError("a diffusion needs at least one step")
        if not ((betas > 0) & (betas <= 1)).all():
            raise ValueError("every β of a noise schedule must lie in (0, 1]")
        if prediction not in Prediction.__args__ or variance not in Variance.__args__:
            raise ValueError(f"unknown prediction {prediction!r} or variance {variance!r}")
        self.betas = betas
        self.prediction = prediction
        self.variance = variance
        self.timestep_map = tuple(range(len(betas))) if timestep_map is None else tuple(timestep_map)
        self.channel_axis = channel_axis  # holds mean and variance side by side where the variance is learned
        self._make_tables()
        self._cache: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    @classmethod
    def create(cls, schedule: str = "cosine", num_timesteps: int = 1000, prediction: Prediction = "x0",
               variance: Variance = "fixed_small", sections: str | int | None = None,
               channel_axis: int = -1) -> "Diffusion":
        """The process of a named schedule, respaced where `sections` is given (see schedules.space_timesteps)."""
        whole = cls(make_betas(schedule, num_timesteps), prediction, variance, channel_axis=channel_axis)
        return whole if sections is None else whole.respaced(sections)

    def respaced(self, sections: str | int | Sequence[int]) -> "Diffusion":
        """The same process over fewer steps; the network still receives original indices."""
        kept = space_timesteps(self.num_timesteps, sections)
        original = [self.timestep_map[index] for index in kept]
        return Diffusion(respace_betas(self.betas, kept), self.prediction, self.variance, original, self.channel_axis)

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    def _make_tables(self) -> None:
        betas = self.betas
        alphas = 1.0 - betas
        self.alphas_cumprod = np.cumprod(alphas)
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])
        self.alphas_cumprod_next = np.append(self.alphas_cumprod[1:], 0.0)
        self.sqrt_alphas_cumprod = np.sqrt(self.alphas_cumprod)
        self.sqrt_one_minus_alphas_cumprod = np.sqrt(1.0 - self.alphas_cumprod)
        self.log_one_minus_alphas_cumprod = np.log(1.0 - self.alphas_cumprod)
        with np.errstate(divide="ignore"):  # ᾱ ends at 0 where the last β is 1
            self.sqrt_recip_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod)
            self.sqrt_recipm1_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod - 1)
        self.snr = self.alphas_cumprod / (1.0 - self.alphas_cumprod)
        # Ho et al. 2020, Eq. 7
        self.posterior_variance = betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)
        # the first variance is 0: its logarithm is taken from the second step, where there is one
        second = self.posterior_variance[:2][-1]
        with np.errstate(divide="ignore"):
            self.posterior_log_variance_clipped = np.log(np.append(second, self.posterior_variance[1:]))
        self.posterior_mean_coef1 = betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)
        self.posterior_mean_coef2 = (1.0 - self.alphas_cumprod_prev) * np.sqrt(alphas) / (1.0 - self.alphas_cumprod)
        # Nichol & Dhariwal 2021, §3.1: the upper bound β, except at the first step
        self.large_variance = np.append(second, betas[1:])
        self.log_betas = np.log(betas)
        with np.errstate(divide="ignore"):
            self.large_log_variance = np.log(self.large_variance)

    def at(self, table: str, t: Step, x: Tensor) -> Tensor | float:
        """Entry of a table at t: a Python float for an int, float32 (B, 1, ...) beside x for a tensor of steps."""
        if isinstance(t, int):
            return float(getattr(self, table)[t])
        dtype = x.dtype if x.dtype == torch.float64 else torch.float32
        key = (table, x.device, dtype)
        if key not in self._cache:
            self._cache[key] = torch.as_tensor(getattr(self, table), dtype=dtype, device=x.device)
        return self._cache[key][t].reshape(-1, *[1] * (x.dim() - 1))

    # the forward process

    def q_sample(self, x0: Tensor, t: Step, noise: Tensor) -> Tensor:
        """x_t with this noise. Ho et al. 2020, Eq. 4."""
        return self.at("sqrt_alphas_cumprod", t, x0) * x0 + self.at("sqrt_one_minus_alphas_cumprod", t, x0) * noise

    def q_posterior_mean(self, x0: Tensor, x: Tensor, t: Step) -> Tensor:
        """Mean of q(x_{t−1} | x_t, x_0). Ho et al. 2020, Eq. 7."""
        return self.at("posterior_mean_coef1", t, x) * x0 + self.at("posterior_mean_coef2", t, x) * x

    def x0_from_eps(self, x: Tensor, t: Step, eps: Tensor) -> Tensor:
        """x0 (B, ...) from which this noise leads to x."""
        return self.at("sqrt_recip_alphas_cumprod", t, x) * x - self.at("sqrt_recipm1_alphas_cumprod", t, x) * eps

    def eps_from_x0(self, x: Tensor, t: Step, x0: Tensor) -> Tensor:
        """The noise that leads from x0 to x.

        For a tensor of steps in the form, hence with the float32 rounding, of guided-diffusion; for one step without
        1/√ᾱ, which is huge at the last steps and infinite where ᾱ ends at 0.
        """
        if isinstance(t, int):
            return (x - self.at("sqrt_alphas_cumprod", t, x) * x0) / self.at("sqrt_one_minus_alphas_cumprod", t, x)
        return (self.at("sqrt_recip_alphas_cumprod", t, x) * x - x0) / self.at("sqrt_recipm1_alphas_cumprod", t, x)

    def x0_from_v(self, x: Tensor, t: Step, v: Tensor) -> Tensor:
        """Salimans & Ho 2022, §4: v = √ᾱ ε − √(1−ᾱ) x0."""
        return self.at("sqrt_alphas_cumprod", t, x) * x - self.at("sqrt_one_minus_alphas_cumprod", t, x) * v

    def x0_from_previous(self, x: Tensor, t: Step, previous: Tensor) -> Tensor:
        """x0 (B, ...) for which `previous` is the mean of x_{t−1}. Ho et al. 2020, Eq. 7."""
        coef1, coef2 = self.at("posterior_mean_coef1", t, x), self.at("posterior_mean_coef2", t, x)
        return previous / coef1 - coef2 / coef1 * x

    def target(self, x0: Tensor, x: Tensor, t: Step, noise: Tensor) -> Tensor:
        """What the network should answer at x = q_sample(x0, t, noise)."""
        if self.prediction == "x0":
            return x0
        if self.prediction == "eps":
            return noise
        if self.prediction == "v":
            signal, sigma = self.at("sqrt_alphas_cumprod", t, x), self.at("sqrt_one_minus_alphas_cumprod", t, x)
            return signal * noise - sigma * x0
        return self.q_posterior_mean(x0, x, t)

    # the reverse process

    def original_steps(self, t: Step, x: Tensor) -> Tensor:
        """Index (B,) that the network sees for step t."""
        if isinstance(t, int):
            return torch.full((x.shape[0],), self.timestep_map[t], dtype=torch.long, device=x.device)
        return torch.as_tensor(self.timestep_map, device=x.device)[t]

    def x0_from_output(self, output: Tensor, x: Tensor, t: Step) -> Tensor:
        """x0 from the network's prediction, the variance already split off."""
        if self.prediction == "x0":
            return output
        convert = {"eps": self.x0_from_eps, "v": self.x0_from_v, "previous_x": self.x0_from_previous}
        return convert[self.prediction](x, t, output)

    def predict_x0(self, denoise: Denoise, x: Tensor, t: Step, edit_x0: EditX0 | None = None) -> Tensor:
        """The network's x0 (B, ...) at x, edited; all that the deterministic samplers need."""
        return self._asked(denoise, x, t, edit_x0)[0]

    def p_mean_variance(self, denoise: Denoise, x: Tensor, t: Step, edit_x0: EditX0 | None = None) -> Reverse:
        """Mean and variance of p(x_{t−1} | x_t); `edit_x0` changes the predicted x0 before the mean is taken."""
        x0, output, raw_variance = self._asked(denoise, x, t, edit_x0)
        mean = output if self.prediction == "previous_x" else self.q_posterior_mean(x0, x, t)
        return Reverse(mean, *self._reverse_variance(raw_variance, x, t), x0)

    def _asked(self, denoise: Denoise, x: Tensor, t: Step, edit_x0: EditX0 | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """x0, edited, the network's prediction, and what it says of the variance where that is learned."""
        output, raw_variance = denoise(x, self.original_steps(t, x)), None
        if self.variance.startswith("learned"):
            output, raw_variance = output.chunk(2, dim=self.channel_axis)
        x0 = self.x0_from_output(output, x, t)
        return x0 if edit_x0 is None else edit_x0(x0), output, raw_variance

    def _reverse_variance(self, raw: Tensor | None, x: Tensor, t: Step) -> tuple[Tensor | float, Tensor | float]:
        if self.variance == "fixed_small":
            return self.at("posterior_variance", t, x), self.at("posterior_log_variance_clipped", t, x)
        if self.variance == "fixed_large":
            return self.at("large_variance", t, x), self.at("large_log_variance", t, x)
        if self.variance == "learned":
            return raw.exp(), raw
        # Nichol & Dhariwal 2021, Eq. 15: between the two bounds
        low, high = self.at("posterior_log_variance_clipped", t, x), self.at("log_betas", t, x)
        share = (raw + 1) / 2
        log_variance = share * high + (1 - share) * low
        return log_variance.exp(), log_variance


def make_betas(schedule: str, num_timesteps: int) -> np.ndarray:
    """Variances β (T,) of the steps: "linear" (Ho et al. 2020, rescaled to T) or "cosine" (Nichol & Dhariwal 2021)."""
    if num_timesteps < 2:
        raise ValueError(f"a diffusion needs at least 2 steps, not {num_timesteps}")
    if schedule == "linear":
        scale = 1000 / num_timesteps
        if scale * 0.02 > 1:
            raise ValueError(f"the linear schedule needs at least 20 steps, not {num_timesteps}: use cosine")
        return np.linspace(scale * 0.0001, scale * 0.02, num_timesteps, dtype=np.float64)
    if schedule == "cosine":
        kept = [math.cos((i / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_timesteps + 1)]
        return np.array([min(1 - after / before, 0.999) for before, after in pairwise(kept)])
    raise ValueError(f"unknown noise schedule {schedule!r}: expected cosine or linear")


def space_timesteps(num_timesteps: int, sections: str | int | Sequence[int]) -> list[int]:
    """Ascending indices of the kept steps of a schedule of `num_timesteps`.

    20 or "20": evenly spread, first and last included (1: the first). "10,10,30": as many from each equal part.
    "ddim20": every n-th from 0, where an n exists that gives exactly 20. "trailing4": every quarter's last, so that no step is
    spent where hardly any noise is left (Lin et al. 2024, §3.3).
    """
    if isinstance(sections, str) and sections.startswith("trailing"):
        count = _whole_number(sections[8:], sections)
        if not 1 <= count <= num_timesteps:
            raise ValueError(f"cannot keep {count} of {num_timesteps} steps")
        return [round(num_timesteps * (part + 1) / count) - 1 for part in range(count)]
    if isinstance(sections, str) and sections.startswith("ddim"):
        count = _whole_number(sections[4:], sections)
        for stride in range(1, num_timesteps):
            if len(range(0, num_timesteps, stride)) == count:
                return list(range(0, num_timesteps, stride))
        raise ValueError(f'{num_timesteps} steps cannot be cut to exactly {count} by a whole stride: try "{count}"')
    if isinstance(sections, str):
        sections = [_whole_number(part, sections) for part in sections.split(",")]
    counts = [sections] if isinstance(sections, int) else list(sections)
    if not counts or min(counts) < 1:
        raise ValueError(f"cannot keep {sections!r} of {num_timesteps} steps: expected counts of at least 1")
    base, extra = divmod(num_timesteps, len(counts))
    kept, start = [], 0
    for part, count in enumerate(counts):
        size = base + (part < extra)
        if count > size:
            raise ValueError(f"cannot keep {count} steps of a part of {size} ({num_timesteps} steps in all)")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride  # summed, not multiplied: rounding must fall as in guided-diffusion
        start += size
    return sorted(set(kept))


def respace_betas(betas: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """β of the shorter process that visits only the `kept` steps: the same noise levels ᾱ at those steps."""
    alphas_cumprod = np.cumprod(1.0 - betas)[list(kept)]
    return 1.0 - alphas_cumprod / np.concatenate([[1.0], alphas_cumprod[:-1]])


def _whole_number(text: str, sections: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"cannot read {sections!r} as steps to keep: expected 20, 10,10,30, ddim20 or trailing4") from None

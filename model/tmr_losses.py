"""What TMR and TEMOS are trained with: reconstruction, KL, distance of latents, contrast. Petrovich et al. 2022, 2023.

Means over a batch are over that of all processes: each text is contrasted with the motions of all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.text_similarity import meaning_key, score_to_cosine
from diffusion import reaction_losses
from diffusion.reaction_losses import info_nce
from model.across_processes import all_rows, largest
from model.layers import Posterior, cosines
from model.tmr_config import TMRConfig
from protos.randomness import randn

Generators = torch.Generator | Sequence[torch.Generator]

GROUP_ROWS, ROWS_ON_ACCELERATORS = {"cpu": 8}, 16  # rows that are padded by themselves: accelerators want larger products
HARDNESS, OWN_WEIGHT = 0.5, 0.999  # beta and alpha of the hard negatives


def reconstruction(decoded: Tensor, motion: Tensor) -> Tensor:
    """Smooth L1 of motion (B, T, D), the mean taken over padding too, as published: short clips of a batch weigh less."""
    return F.smooth_l1_loss(decoded, motion)


@dataclass(frozen=True)
class Captions:
    """What tells which captions of a batch mean the same: unit vectors (B, C), and keys (B,) of their words and of clips.

    Texts of other `meanings` are never the same; rows of one of the `clips` always are, whatever is said of it.
    """

    sentences: Tensor
    meanings: Tensor | None = None
    clips: Tensor | None = None

    def of_all_processes(self) -> "Captions":
        return Captions(*(None if x is None else all_rows(x) for x in (self.sentences, self.meanings, self.clips)))

    def false_negatives(self, threshold: float) -> Tensor:
        """(B, B) True at pairs of different rows that count neither for nor against."""
        found = false_negatives(self.sentences, threshold)
        if self.meanings is not None:
            found &= self.meanings[:, None] == self.meanings
        if self.clips is not None:
            own = torch.eye(len(found), dtype=torch.bool, device=found.device)
            found |= (self.clips[:, None] == self.clips) & ~own
        return found


def gaussian_kl(q: Posterior, p: Posterior | None = None) -> Tensor:
    """Mean KL(q || p) of diagonal Gaussians over batch and dimensions; p is the unit Gaussian by default."""
    other = () if p is None else (p.mean, p.log_variance)
    return reaction_losses.gaussian_kl(q.mean, q.log_variance, *other).mean()


def kl_terms(text: Posterior, motion: Posterior) -> dict[str, Tensor]:
    """The two Gaussians toward each other and both toward the unit Gaussian."""
    return {
        "kl_text_to_motion": gaussian_kl(text, motion),
        "kl_motion_to_text": gaussian_kl(motion, text),
        "kl_motion": gaussian_kl(motion),
        "kl_text": gaussian_kl(text),
    }


def false_negatives(sentences: Tensor, threshold: float) -> Tensor:
    """(B, B) True at pairs of different rows whose captions mean the same: a score, cosine / 2 + 0.5, above the threshold."""
    with torch.autocast(sentences.device.type, enabled=False):  # bfloat16 would put pairs on the other side of it
        alike = (sentences.float() @ sentences.float().T).clamp(max=1) > score_to_cosine(threshold)
    return alike & ~torch.eye(len(alike), dtype=torch.bool, device=alike.device)


def contrast_logits(text: Tensor, motion: Tensor, temperature: float, captions: Captions | None = None,
                    threshold: float = 0.0) -> Tensor:
    """Cosines over temperature (B texts, B motions), minus infinity at pairs that count neither for nor against.

    Threshold 0 or no captions: every other motion is a negative.
    """
    with torch.autocast(text.device.type, enabled=False):  # bfloat16 would blur cosines, and ranks with them
        logits = cosines(text, motion) / temperature
    if captions is None or not threshold:
        return logits
    return logits.masked_fill(captions.false_negatives(threshold), -torch.inf)


def hard_negative_nce(logits: Tensor) -> Tensor:
    """InfoNCE whose negatives weigh by how near they come. Radenovic et al. 2023, as TMR++ uses it."""

    def one_way(x: Tensor) -> Tensor:
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        others = (HARDNESS * x).masked_fill(own, -torch.inf)
        others = others.masked_fill(others.isneginf().all(1, keepdim=True), 0.0)  # no negative is left: any weights do
        weights = others.log_softmax(1) + math.log(max(len(x) - 1, 1))  # logarithms of weights that average 1
        weights = weights.masked_fill(own, math.log(OWN_WEIGHT))
        return (torch.logsumexp(weights + x, 1) - x.diagonal()).mean()

    return (one_way(logits) + one_way(logits.T)) / 2


@dataclass(frozen=True)
class LatentNoise:
    """Unit Gaussian draws (B, C) for the latents of texts and of motions."""

    text: Tensor
    motion: Tensor

    @staticmethod
    def draw(like: Tensor, generator: Generators) -> "LatentNoise":
        """Text first, as published."""
        return LatentNoise(*(randn(generator, like.shape, device=like.device, dtype=like.dtype) for _ in range(2)))


def loss_terms(text: Posterior, motion: Posterior, noise: LatentNoise, decode: Callable[[Tensor], Tensor],
               target: Tensor, config: TMRConfig, captions: Captions | None = None, *,
               together: bool = False) -> dict[str, Tensor]:
    """Unweighted terms and their weighted sum "loss". decode: latents (B, C) -> motion (B, T, D); target (B, T, D).

    together: the batches of all processes, which must all call this, make up one; their mean is its loss.
    """
    z_text, z_motion = text.sample(noise.text), motion.sample(noise.motion)  # (B, C)
    padded = target.shape[1] / largest(target.shape[1]) if together else 1.0  # to the longest of all processes
    terms = {
        "recons_text": reconstruction(decode(z_text), target) * padded,
        "recons_motion": reconstruction(decode(z_motion), target) * padded,
        "latent": F.smooth_l1_loss(z_text, z_motion),
    }
    terms["recons"] = terms["recons_text"] + terms["recons_motion"]
    if config.vae:
        parts = kl_terms(text, motion)
        terms |= {**parts, "kl": sum(parts.values())}
    if config.lambda_contrastive:
        if together:
            z_text, z_motion = all_rows(z_text), all_rows(z_motion)
            captions = captions and captions.of_all_processes()
        logits = contrast_logits(z_text, z_motion, config.temperature, captions, config.false_negative_threshold)
        terms["contrastive"] = (info_nce if config.contrast == "infonce" else hard_negative_nce)(logits)
    terms["loss"] = weighted_sum(terms, config)
    return terms


def weighted_sum(terms: dict[str, Tensor], config: TMRConfig) -> Tensor:
    """Sum of the terms that the configuration has a weight for."""
    weights = {"recons": config.lambda_recons, "kl": config.lambda_kl, "latent": config.lambda_latent,
               "contrastive": config.lambda_contrastive}
    return sum(weight * terms[name] for name, weight in weights.items() if name in terms)


def captions_of(batch: Batch, sentences: Tensor, duplicates: str) -> Captions:
    """What tells which captions of a batch mean the same, of their unit vectors (B, C) and the rule for `duplicates`."""
    if duplicates != "words":
        return Captions(sentences)
    meanings = torch.tensor([meaning_key(text) for text in batch.texts], device=sentences.device)
    return Captions(sentences, meanings, None if batch.indices is None else batch.indices.to(sentences.device))


class LengthGroups:
    """Rows of a batch in groups of like length, each padded by itself: the same outcome as at once, in less time."""

    def __init__(self, lengths: Tensor, device: str):
        """lengths (B,), on the CPU or not; device: the type of that on which the networks are."""
        lengths = lengths.cpu()
        order = lengths.argsort(stable=True)
        self.back = order.argsort()
        size = GROUP_ROWS.get(device, ROWS_ON_ACCELERATORS)
        self.groups = [(rows, int(lengths[rows].max())) for rows in order.split(size)]

    def encode(self, encode: Callable[[Tensor, Tensor], Posterior], motion: Tensor, mask: Tensor) -> Posterior:
        """encode(motion (B, T, D), mask (B, T)) of all rows."""
        found = [encode(motion[rows, :frames], mask[rows, :frames]) for rows, frames in self.groups]
        mean, log_variance = (torch.cat([getattr(each, name) for each in found])[self.back]
                              for name in ("mean", "log_variance"))
        return Posterior(mean, log_variance)

    def decode(self, decode: Callable[[Tensor, Tensor], Tensor], latents: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), zero where mask (B, T) is False, of decode(latents (B, C), mask (B, T))."""
        made = [F.pad(decode(latents[rows], mask[rows, :frames]), (0, 0, 0, mask.shape[1] - frames))
                for rows, frames in self.groups]
        return torch.cat(made)[self.back]

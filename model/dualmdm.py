"""DualMDM: what two people do together, by in2IN, blended at every step with what each does alone, by a one-person prior.

Ruiz-Ponce et al. 2024, §3.3. Nothing is trained. Published code runs person 2 through the last layer of the prior only and blends
motions in two normalisations as they are; both is repeated for published weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from data_loaders.features import FeaturesMismatch, Statistics
from diffusion.gaussian import Denoise
from diffusion.guidance import blend_share, blended
from model.capabilities import OWN, Decoding, Guidance, Request
from model.checkpoints import from_pretrained, load_part
from model.in2in import In2IN, guidance_of, make, texts_of
from model.in2in_config import DualMDMConfig
from model.model import Model
from model.registry import in2in_file
from model.text_encoders import TextEncoder
from protos.reading import FileError

PUBLISHED = {"convert": False, "person2_layers": "last"}  # how published weights are blended
BLENDED = ("positions", "velocities")  # blocks of features that mean the same in both parts


class DualMDM(Model):
    """Stands on its parts `interaction`, of two people, and `individual`, of one, and has no networks of its own."""

    def __init__(self, config: DualMDMConfig, statistics: Statistics | None = None, parts: Mapping[str, In2IN] | None = None):
        """statistics: those of `interaction`. ValueError, FeaturesMismatch for parts that cannot be blended."""
        parts = dict(parts or {})
        if missing := {"interaction", "individual"} - parts.keys():
            raise ValueError(f"a blend of two models needs its part {min(missing)}")
        super().__init__(config, statistics, {}, parts=parts)
        both, one = (parts[name].config for name in ("interaction", "individual"))
        if (both.mode, one.mode) != ("interaction", "individual"):
            raise ValueError(f"a blend takes a model of mode interaction and one of individual, not {both.mode} and {one.mode}")
        if both.features.skeleton != one.features.skeleton:
            raise FeaturesMismatch(f"the model of two people uses skeleton '{both.features.skeleton}', that of one "
                                   f"'{one.features.skeleton}': choose weights made alike")  # fmt: skip
        if both.joints_only != one.joints_only:
            raise ValueError("a blend takes two models that make the same columns, both with joints_only or neither")
        noising = [(each.noise_schedule, each.diffusion_steps, each.prediction) for each in (both, one)]
        if noising[0] != noising[1] or both.prediction != "x0":
            raise ValueError(f"a blend takes two models of x0 with the same diffusion, not {noising[0]} and {noising[1]}")
        self.diffusion = self.interaction.diffusion

    @staticmethod
    def of(interaction: In2IN, individual: In2IN, **settings) -> "DualMDM":
        """The two as one, with what they decide filled in. settings: of DualMDMConfig. ValueError as on making it."""
        own = interaction.config
        config = DualMDMConfig(features=own.features, dataset=own.dataset, max_frames=own.max_frames, **settings)
        return DualMDM(config, interaction.statistics, {"interaction": interaction, "individual": individual})

    @property
    def interaction(self) -> In2IN:
        """The model of two people."""
        return self.parts["interaction"]

    @property
    def individual(self) -> In2IN:
        """The model of one person."""
        return self.parts["individual"]

    @property
    def device(self) -> torch.device:
        return self.interaction.device

    @property
    def num_channels(self) -> int:
        """Columns of what is denoised."""
        return self.interaction.num_channels

    def completed(self, made: Tensor) -> Tensor:
        """Features (T, 2 * D) of a motion that it made."""
        return self.interaction.completed(made)

    def kept_columns(self, keep: Tensor) -> Tensor:
        """As the model of two people reads what stays of a motion."""
        return self.interaction.kept_columns(keep)

    def normalise(self, features: Tensor) -> Tensor:
        """(..., D) as the model of two people reads them."""
        return self.interaction.normalise(features)

    def denormalise(self, motion: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return self.interaction.denormalise(motion)

    @property
    def text_encoder(self) -> TextEncoder | None:
        """Of both parts."""
        return self.interaction.text_encoder

    @text_encoder.setter
    def text_encoder(self, encoder: TextEncoder | None) -> None:
        for part in self.parts.values():
            part.text_encoder = encoder

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, 2 * D)] in their units. One guidance scale holds for both parts. Raises as In2IN's."""
        if not self.interaction.config.individual_texts:
            together = self.interaction.condition_of([replace(each, individual_texts=None) for each in requests])
        else:
            together = self.interaction.condition_of(requests)
        texts = texts_of(requests, ("interaction", "individual1", "individual2"))
        apart = [self.individual.condition_of([Request(text, 1) for text in texts[f"individual{person}"]]) for person in (1, 2)]
        guidance = guidance_of(self, decoding)
        return make(self, requests, decoding, lambda mask: self.blended(together, apart, mask, guidance))

    def blended(self, together: Tensor, apart: Sequence[Tensor], mask: Tensor | None, guidance: Guidance) -> Denoise:
        """denoise(x, t) under conditions of both people (B, R, C) and of each alone (B, 1, C), mask (B, T)."""
        both = guidance.together
        first, second = (Guidance(own if both is None else both, 0.0, 0.0) for own in (guidance.interaction, guidance.individual))
        first, second = self.interaction.guided(together, mask, first), self.of_each(apart, mask, second)
        c = self.config
        if c.blend == "const" and c.blend_value == 0:
            return first
        if c.blend == "const" and c.blend_value == 1 and not c.convert:
            return second
        answer = partial(self.converted, second) if c.convert else lambda x, t, x0: second(x, t)
        return blended(first, answer, self.share)

    def share(self, t: Tensor) -> Tensor:
        """Of the prior at original steps t (B,); as published, the first one tells for all."""
        return blend_share(self.config.blend, self.config.blend_value, t if self.config.convert else t[:1].expand(len(t)))

    def of_each(self, conditions: Sequence[Tensor], mask: Tensor | None, guidance: Guidance) -> Denoise:
        """denoise(x, t) of both people (B, T, 2 * D) by the prior, each by its own condition (B, 1, C)."""
        if self.config.person2_layers == "all":
            denoise = self.individual.guided(torch.cat(list(conditions)), None if mask is None else mask.repeat(2, 1), guidance)

            def both(x: Tensor, t: Tensor) -> Tensor:
                people = denoise(rearrange(x, "b t (p d) -> (p b) t d", p=2), t.repeat(2))
                return rearrange(people, "(p b) t d -> b t (p d)", p=2)

            return both
        last = self.individual.config.num_layers - 1
        alone = [self.individual.guided(given, mask, guidance, layer) for given, layer in zip(conditions, (0, last), strict=True)]
        return lambda x, t: torch.cat([denoise(person, t) for denoise, person in zip(alone, x.chunk(2, -1))], dim=-1)

    def converted(self, second: Denoise, x: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """What the prior makes of x (B, T, 2 * D) at original steps t, both in the normalisation of two people, who are
        predicted to be at x0.

        The noise in x stays of unit variance, as the prior was trained: the motion alone is converted, which x0 is taken for.
        Where features mean something else in the prior (rotations, contacts) it is x0.
        """
        both, one = self.interaction, self.individual

        def people(rows: Tensor) -> Tensor:
            return rows.unflatten(-1, (2, -1))  # (B, T, 2, D)

        in_prior = one.normalise(people(both.denormalise(x0))).flatten(-2)
        seen = x + self.diffusion.at("sqrt_alphas_cumprod", t, x) * (in_prior - x0)
        made = both.normalise(one.denormalise(people(second(seen, t))).flatten(-2))
        columns = torch.zeros(self.features.width, dtype=torch.bool, device=x.device)
        for name in BLENDED:
            columns[self.features.blocks[name]] = True
        return torch.where(columns[both.columns].repeat(2), made, x0)


def of_one_person(path: Path) -> In2IN:
    """The model of one person of a checkpoint: its own, its part, or that which a model of two people was made of. FileError."""
    return alone(load_part(path, "individual", "in2in"), path)


def alone(model: In2IN, path: Path) -> In2IN:
    """A model of one person itself, or the one that a model of two people was made of. FileError naming its path."""
    one = model if model.config.mode == "individual" else model.prior()
    if one is None:
        raise FileError(f"{path} holds a model of mode interaction that was not made of one of mode individual "
                        "(train.train_in2in --prior): give that too (--individual_path)")  # fmt: skip
    return one


def load_dual(interaction: Path, individual: Path | None = None) -> DualMDM:
    """The blend of two checkpoints, each that of a model or of a blend; as published where both are. FileError, or ValueError for
    two that cannot be blended.

    individual None: the part that `interaction` holds beside its own, or the model that this was made of.
    """
    held = from_pretrained(interaction, systems=("in2in", "dualmdm"))
    if individual is None:
        return held if isinstance(held, DualMDM) else DualMDM.of(held, alone(held, interaction))
    both, one = held.interaction if isinstance(held, DualMDM) else held, of_one_person(individual)
    if not (in2in_file(interaction) and in2in_file(individual)):
        return DualMDM.of(both, one)
    dual = DualMDM.of(both, one, **PUBLISHED)
    dual.text_encoder = one.text_encoder  # the same tower lies in either file
    return dual

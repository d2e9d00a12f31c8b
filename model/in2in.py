"""InterGen, in2IN and the one-person prior as one object: the denoiser of people and the reader of their texts, with the training
objective and how they sample. Liang et al. 2024 (InterGen); Ruiz-Ponce et al. 2024 (in2IN).
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import FeaturesMismatch, Statistics
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import pass_weights, stack_conditions, weighted
from diffusion.interaction_losses import InteractionWeights, interaction_loss, person_loss, pooled_squared_error
from diffusion.samplers import sample_noise
from model.capabilities import OWN, Decoding, Guidance, Request
from model.in2in_config import ONE_PERSON, In2INConfig
from model.in2in_network import PeopleDenoiser, TextReader
from model.individual_texts import individual_texts
from model.lsremgm_network import zero_where
from model.lsremgm_sampling import check_lengths, edit_of, run, smooth
from model.model import Draws, Model, ReadsTexts, require_only
from model.people import ReadsPeople
from model.text_encoders import EncodesTexts, TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.randomness import rand, randint, randn

log = logging.getLogger(__name__)
# Which roles the passes of guidance are shown: none, all, the text about both, those about one each
SHOWN = ((0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 1))


class In2IN(ReadsPeople, ReadsTexts):
    """Its network `denoiser` predicts normalised motion (B, T, persons * C), `text_reader` makes its condition of texts."""

    def __init__(self, config: In2INConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):
        """text_encoder replaces the frozen one that the configuration names. FeaturesMismatch for features of another number of
        people."""
        if config.features.persons != config.persons:
            raise FeaturesMismatch(f"mode {config.mode} makes motions of {config.persons}, '{config.features.kind}' is of "
                                   f"{config.features.persons}: choose other data or another mode")  # fmt: skip
        networks = {"denoiser": PeopleDenoiser(config, config.num_columns), "text_reader": TextReader(config)}
        super().__init__(config, statistics, networks)
        self.diffusion = Diffusion.create(
            config.noise_schedule, config.diffusion_steps, config.prediction,
            "fixed_small" if config.sigma_small else "fixed_large")
        self.text_encoder = text_encoder

    @property
    def num_channels(self) -> int:
        """Columns of what is denoised."""
        return self.features.persons * self.columns.stop

    def reader(self) -> EncodesTexts:
        return load_text_encoder(self.config.text_encoder, padded=self.config.text_padded)

    def condition(self, texts: Mapping[str, TextFeatures]) -> Tensor:
        """What the denoiser is told (B, R, C) of the features of the texts of each role."""
        read = []
        for role in self.config.text_roles:
            given = texts[role].to(self.device)
            if self.config.text_padded:  # the mark of the end has the highest id
                read.append(self.networks["text_reader"](given.tokens, given.ids.argmax(1)))
            else:
                read.append(self.networks["text_reader"](given.tokens, given.last, given.mask))
        return torch.stack(read, dim=1)

    def condition_of(self, requests: Sequence[Request]) -> Tensor:
        """(B, R, C) of requests. ValueError for texts of a role that the model does not read."""
        texts = texts_of(requests, self.config.text_roles)
        features = self.encode_text([text for role in texts.values() for text in role])
        rows = torch.arange(len(features), device=self.device).split(len(requests))
        return self.condition({role: features[part] for role, part in zip(texts, rows, strict=True)})

    def guided(self, condition: Tensor, mask: Tensor | None, guidance: Guidance, first_layer: int = 0) -> Denoise:
        """denoise(x, t) under a condition (B, R, C), guided by the texts of each role, all passes in one batch.

        u + w_c (G(all) − u) + w_I (G(interaction) − u) + w_i (G(individual) − u), Ruiz-Ponce et al. 2024, Eq. 5; passes that
        count nothing are left out. mask and first_layer: as the denoiser takes them.
        """
        roles = condition.shape[1]
        scales = (guidance.together, guidance.interaction, guidance.individual)[:roles]
        weights = pass_weights([scale or 0.0 for scale in scales])
        shown = condition.new_tensor([SHOWN[number][:roles] for number in weights])  # (K, R)
        stacked = (shown[:, None, :, None] * condition).flatten(0, 1)  # (K B, R, C)
        mask = stack_conditions(mask, len(weights))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return self.networks["denoiser"](x, t, stacked, mask, first_layer).to(x.dtype)

        return weighted(denoise, list(weights.values()))

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, persons * D)] in their units, of any lengths at once. Raises LengthError, EditError, and ValueError
        for texts about each of two people where the model reads none.
        """
        condition, guidance = self.condition_of(requests), guidance_of(self, decoding)
        return make(self, requests, decoding, lambda mask: self.guided(condition, mask, guidance))

    def prior(self) -> "In2IN | None":
        """The model of one person that this one was made of, whose weights it holds as they were; None where it was not."""
        if not self.config.made_of_prior:
            return None
        features = replace(self.features, kind=ONE_PERSON.kind)
        config = replace(self.config, mode="individual", features=features, dataset=self.config.made_of_prior, made_of_prior="",
                         prior_rank=0, tell_first=False, guidance_interaction=None, guidance_individual=None)  # fmt: skip
        each = (values[: features.width] for values in (self.statistics.mean, self.statistics.std))
        prior, held = In2IN(config, Statistics(*each, features), text_encoder=self.text_encoder), self.networks.state_dict()
        prior.networks.load_state_dict({name: held[name] for name in prior.networks.state_dict()})
        return prior.to(self.device).eval()

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms of one denoising step per sample, each one number of the whole batch; of two people, and with `body_losses`,
        "loss" is their weighted sum.

        Beyond its end a motion stands still, so that no jump to padding counts, as it does in published training.
        """
        config, samples = self.config, draws.samples
        x0, mask = self.masked(batch)
        size, device = len(x0), x0.device
        # Drawn in this order, the noise last: its first frames then do not depend on how far a batch is padded.
        t = randint(samples, config.diffusion_steps, (size,), device=device)
        chances = rand(samples, (size, 3), device=device)
        noise = randn(samples, x0.shape, device=device, dtype=x0.dtype)
        condition = drop_texts(self.condition(batch.text_features), chances, config)
        x = self.diffusion.q_sample(x0, t, noise)
        output = self.networks["denoiser"](x, t, condition, mask).to(x0.dtype)
        alone = self.features.persons == 1
        if alone and not config.body_losses:
            return {"denoising": pooled_squared_error(output, self.diffusion.target(x0, x, t, noise), mask)}
        predicted, true = (standing_still(each, mask) for each in (self.diffusion.x0_from_output(output, x, t), x0))
        made_of = person_loss if alone else interaction_loss
        return made_of(predicted, true, self.joints_of, t, F.pad(mask, (0, 1)), self.loss_weights(), self.features.body)

    def joints_of(self, x: Tensor) -> Tensor:
        """Joints (B, persons, T, J, 3) in metres of normalised features (B, T, persons * D)."""
        return self.features.joints(self.denormalise(x))

    def loss_weights(self) -> InteractionWeights:
        """Weights of the terms of the loss of two people."""
        terms = [field.name for field in fields(InteractionWeights) if hasattr(self.config, f"lambda_{field.name}")]
        return InteractionWeights(**{name: getattr(self.config, f"lambda_{name}") for name in terms},
                                  latest_step=self.config.latest_step)  # fmt: skip


def standing_still(x: Tensor, mask: Tensor) -> Tensor:
    """Motion (B, T + 1, D) that goes on as it ends in x (B, T, D), mask (B, T) being True at real frames."""
    frames = torch.arange(x.shape[1] + 1, device=x.device).minimum(mask.sum(1, keepdim=True) - 1)  # (B, T + 1)
    return x.take_along_dim(frames[..., None], dim=1)


def drop_texts(condition: Tensor, chances: Tensor, config: In2INConfig) -> Tensor:
    """A condition (B, R, C) without all its texts where chances[:, 0] (B, 3), in [0, 1), says so, without the text about both by
    [:, 1], without those about one each by [:, 2]."""
    condition = zero_where(chances[:, 0] < config.cond_mask_prob, condition)
    if not config.role_mask_prob or condition.shape[1] == 1:
        return condition
    left_out = chances[:, 1:] < config.role_mask_prob  # (B, 2)
    return condition.masked_fill(left_out[:, [0, 1, 1], None], 0)


def texts_of(requests: Sequence[Request], roles: Sequence[str]) -> dict[str, list[str]]:
    """The texts of requests by role; those about one each follow from the one about both where they are not given."""
    if several := [request for request in requests if not isinstance(request.text, str)]:
        raise ValueError(f"{len(several[0].text)} texts in a row: this model makes a motion as a whole, from one")
    if len(roles) == 1 and any(request.individual_texts for request in requests):
        raise ValueError("texts about one person each: this model was trained without, leave them out")
    each = [request.individual_texts or individual_texts(request.text) for request in requests]
    texts = {roles[0]: [request.text for request in requests]}
    return texts | {role: [pair[person] for pair in each] for person, role in enumerate(roles[1:])}


def guidance_of(model: Model, decoding: Decoding) -> Guidance:
    """The strengths to use: the model's own, one number for all texts together, or one by role. ValueError for no number."""
    asked = decoding.guidance_scale
    if asked is None or model.config.own_guidance is None:
        if asked is not None:
            log.warning("guidance is ignored: this model was trained with its texts always present")
        return Guidance(together=1.0) if model.config.own_guidance is None else model.config.guidance
    own = model.config.guidance
    given = asked if isinstance(asked, Guidance) else Guidance(float(asked), 0.0, 0.0)
    strengths = [getattr(own if getattr(given, each.name) is None else given, each.name) for each in fields(Guidance)]
    if not all(scale is None or math.isfinite(scale) for scale in strengths):
        raise ValueError(f"guidance {strengths}: expected finite numbers")
    return Guidance(*strengths)


def make(model: Model, requests: Sequence[Request], decoding: Decoding,
         denoiser: Callable[[Tensor | None], Denoise]) -> list[Tensor]:
    """Features [(frames, persons * D)] in their units by denoiser(mask), mask (B, T) being None where all are equally long.

    Padding is hidden from attention, so a motion is the same as made alone: as published, without a mask.
    """
    model.eval()
    lengths = [request.frames for request in requests]
    check_lengths(lengths, model.features, model.config.max_frames)
    for request in requests:
        require_only(request, ("motion", "keep", "individual_texts"), "this model does not take it")
    frames = max(lengths)
    mask = torch.arange(frames, device=model.device) < torch.tensor(lengths, device=model.device)[:, None]  # (B, T)
    denoise = denoiser(None if min(lengths) == frames else mask)
    noise = sample_noise([request.seed for request in requests])
    x = run(model, denoise, (len(requests), frames, model.num_channels), noise, decoding, edit_of(model, requests, frames))
    made = [row[:length] for row, length in zip(model.denormalise(x), lengths, strict=True)]
    return [smooth(features, decoding.smoothing) for features in made] if decoding.smoothing else made

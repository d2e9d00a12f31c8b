"""What reactions that are made as a whole and those that are made piece by piece have in common: networks, what is told of an
action, losses on latents, guidance.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.motion_semantics import Scheme, changes, levels, normalised
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import pass_weights, stack_conditions, weighted
from diffusion.interaction_losses import body_terms, near_joint_error, pair_terms
from diffusion.losses import masked_l2
from diffusion.meanflow import MeanVelocity
from diffusion.reaction_losses import alike, discrimination, gaussian_kl
from model.autoencoder import MotionAutoencoder
from model.capabilities import Decoding, Guidance, Request
from model.layers import Posterior
from model.model import Model, ReadsTexts
from model.people import ReadsPeople
from model.reaction_config import SEMANTIC_TOKENS, ReactionConfig
from model.reaction_flow import FlowDenoiser, Memory
from model.reaction_network import Action, LatentEncoder, ReactionDenoiser, SemanticReader
from model.text_encoders import EncodesTexts, TextEncoder, TextFeatures
from model.text_towers import load_text_encoder

log = logging.getLogger(__name__)
OF_LATENT = 1  # tells the noise of latents from that of motion


class AskedText(NamedTuple):
    """Features of B texts, None where nobody gave one, and who gave none (B,)."""

    features: TextFeatures | None
    absent: Tensor


@dataclass(frozen=True)
class Passes:
    """What a network is asked for by guidance, K copies of B samples below each other, and how much each copy counts: an action,
    text or None, mask (K B, T) True at frames or latents that there are, the normalised reaction until then (K B, context, D), or
    None, or its latents, and drop and drop_text (K B,) True where action and text are removed."""

    weights: Sequence[float]
    action: Action
    text: TextFeatures | None
    mask: Tensor
    past: Tensor | None
    drop: Tensor
    drop_text: Tensor


class ReactionModel(ReadsPeople, ReadsTexts):
    """Networks: `denoiser`, `action_encoder`, `reaction_encoder`, and `semantics`, where these are told. The denoiser works on
    frames, or on latents of its part `autoencoder`.

    Its features are of two people, the one who acts first; mean and std are those of one person, whoever it is.
    """

    def __init__(self, config: ReactionConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):
        """text_encoder replaces the frozen one that the configuration names. FeaturesMismatch for features of one person,
        ValueError for an autoencoder that does not fit."""
        config, parts = config.resolved(), parts or {}
        require_pair(config.features)
        require_autoencoder(config, parts.get("autoencoder"))
        width = config.features.width
        networks = {"semantics": SemanticReader(config)} if config.num_semantics else {}
        networks |= {f"{name}_encoder": LatentEncoder(config, config.num_columns) for name in ("action", "reaction")}
        if config.in_latents:
            networks["denoiser"] = FlowDenoiser(config, width, parts["autoencoder"].config.latent_channels)
        else:
            networks["denoiser"] = ReactionDenoiser(config, config.num_columns)
        super().__init__(config, statistics, networks, parts=parts)
        self.mean, self.std = (None if each is None else each[:width] for each in (self.mean, self.std))
        self.diffusion = Diffusion.create(
            config.noise_schedule, config.diffusion_steps, config.prediction,
            "fixed_small" if config.sigma_small else "fixed_large")
        self.text_encoder = text_encoder

    @property
    def denoiser(self) -> ReactionDenoiser | FlowDenoiser:
        """Predicts the clean reaction from a noisy one, or the average velocity of its latent."""
        return self.networks["denoiser"]

    def reader(self) -> EncodesTexts:
        return load_text_encoder(self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)

    @property
    def autoencoder(self) -> MotionAutoencoder | None:
        """The part in whose latents a reaction is made."""
        return self.parts.get("autoencoder")

    def read_texts(self, requests: Sequence[Request]) -> AskedText:
        """The texts of requests, of which an empty one is none. ValueError for several in a row."""
        texts = [request.text for request in requests]
        if several := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(f"{len(several[0])} texts in a row: this model follows one")
        absent = torch.tensor([not text.strip() for text in texts], device=self.device)
        return AskedText(None if bool(absent.all()) else self.encode_text(texts), absent)

    def acted(self, request: Request, frames: int) -> Tensor:
        """Features (frames, D) of the one who acts, who goes on as in the last frame. ValueError where there is none."""
        actor, width = request.actor, self.features.width
        if actor is None:
            raise ValueError("this model answers an action: give the features of the one who acts")
        if actor.ndim != 2 or actor.shape[1] != width or not len(actor):
            raise FeaturesMismatch(f"an action of shape {tuple(actor.shape)}, expected (frames, {width}) of one person")
        return actor[torch.arange(frames, device=actor.device).clamp(max=len(actor) - 1)].to(self.device)

    def joints_of(self, people: Sequence[Tensor]) -> Tensor:
        """Joints (B, P, T, J, 3) in metres of the normalised motion (B, T, D) of each of two people."""
        return self.features.joints(torch.cat([self.denormalise(each) for each in people], dim=-1))

    @torch.no_grad()
    def tell(self, joints: Tensor, mask: Tensor) -> Tensor:
        """Tokens and atomic actions (B, T, N) of joints (B, T, J, 3) in metres; tokens alone for a model without the latter.

        mask (B, T): True at real frames, those of a clip coming first.
        """
        with torch.autocast(joints.device.type, enabled=False):  # bfloat16 would move tokens by many levels
            tokens = tokens_of(joints, self.features.fps, self.config)
            if not self.config.tells_actions:
                return tokens
            return torch.cat([tokens, self.networks["semantics"].assign(tokens, mask.sum(1), self.config.online)], dim=-1)

    def read(self, told: Tensor | None) -> Tensor | None:
        """What is made (B, T, S) of told semantics (B, T, N); None for a model that is told none."""
        return self.networks["semantics"](told) if self.config.num_semantics else None

    def encode(self, which: str, motion: Tensor, read: Tensor | None, mask: Tensor) -> Posterior:
        """The Gaussian over latents (B, Z) of a normalised action or reaction (B, T, D), beside what is read of the action."""
        found = self.networks[f"{which}_encoder"](motion, read, mask)
        return Posterior(found.mean.float(), found.log_variance.float())

    def joint_terms(self, predicted: Sequence[Tensor], true: Sequence[Tensor], mask: Tensor, active: Tensor) -> dict[str, Tensor]:
        """Errors of the reacting body and of what lies between the two, of the normalised motion (B, T, D) of each, in those
        samples (B,) that are `active`."""
        predicted, true = self.joints_of(predicted), self.joints_of(true)
        terms = pair_terms(predicted, true, mask, active) | body_terms(predicted[:, 1], true[:, 1], mask, active,
                                                                       self.features.body)  # fmt: skip
        if self.config.lambda_near_joints:
            terms["near_joints"] = near_joint_error(predicted, true, mask, active)
        return terms

    def latent_terms(self, action: Posterior, reaction: Posterior, told: Tensor | None, mask: Tensor) -> dict[str, Tensor]:
        """What the configuration asks of the latents: regularisation, alignment, discrimination."""
        config, terms = self.config, {}
        sides = (action.mean, action.log_variance), (reaction.mean, reaction.log_variance)
        if config.regularisation:
            terms["regularisation"] = gaussian_kl(*sides[0]) + gaussian_kl(*sides[1])
        if config.alignment:
            terms["alignment"] = (gaussian_kl(*sides[0], *sides[1]) + gaussian_kl(*sides[1], *sides[0])) / 2
        if config.discrimination:
            tokens = told[..., :SEMANTIC_TOKENS] * mask[..., None]
            excluded = alike(tokens.sum(1) / mask.sum(1, keepdim=True), config.alike_above)
            terms["discrimination"] = discrimination(action.mean, reaction.mean, excluded, config.temperature)
        return terms

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Of the means of terms by their weights."""
        weights = {"denoising": 1.0} | {name: getattr(self.config, f"lambda_{name}") for name in terms if name != "denoising"}
        return sum(weights[name] * term.mean() for name, term in terms.items())

    def guided(self, action: Action, text: AskedText, mask: Tensor, guidance: Guidance, past: Tensor | None = None) -> Denoise:
        """denoise(x, t) with the passes of both guidances in one batch. past (B, context, D): the normalised reaction until then,
        where it is made piece by piece."""
        asked = self.passes(action, text, mask, guidance, past)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x, t, asked.action, asked.text, asked.mask, past=asked.past, drop=asked.drop,
                                 drop_text=asked.drop_text)[0].to(x.dtype)  # fmt: skip

        return weighted(denoise, asked.weights)

    def flow(self, asked: Passes) -> MeanVelocity:
        """flow(z, r, t) of the latent of a piece, mask and past being those of latents; the past is read in the first call."""
        memory = self.remembered(asked)

        def ask(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
            nonlocal memory
            u, _, memory = self.denoiser(z, r, t, memory)
            return u.to(z.dtype)

        return weighted(ask, asked.weights)

    def remembered(self, asked: Passes) -> Memory:
        """What the denoiser of latents remembers of the past."""
        return self.denoiser.remember(asked.action, asked.past, asked.mask, asked.text, drop=asked.drop,
                                      drop_text=asked.drop_text)  # fmt: skip

    def whole(self, mask: Tensor) -> Tensor:
        """(B, N) True at latents all of whose frames (B, T) there are."""
        return mask.unflatten(1, (-1, self.config.pred_len)).all(-1)

    def latents_of(self, reaction: Tensor, mask: Tensor) -> Tensor:
        """Latents (B, N, Z) of unit variance of the normalised reaction (B, T, D), mask (B, T) True at frames that there are."""
        network = self.autoencoder.network
        mask = self.whole(mask).repeat_interleave(self.config.pred_len, dim=1)
        return network.normalise(network.encode(self.autoencoder.normalise(self.denormalise(reaction)), mask).mean.float())

    def decoded(self, latents: Tensor, keep: Tensor) -> Tensor:
        """The normalised reaction (B, T, D) of latents (B, N, Z), keep (B, N) True at those that there are."""
        network = self.autoencoder.network
        columns = network.decode(network.denormalise(latents), keep.repeat_interleave(self.config.pred_len, dim=1)).float()
        return self.normalise(self.autoencoder.denormalise(columns))

    def passes(self, action: Action, text: AskedText, mask: Tensor, guidance: Guidance, past: Tensor | None = None) -> Passes:
        """What both guidances ask for; passes that count nothing are left out.

        u + w_a (m(action) − u) + w_t (m(action, text) − m(action)); where a text is absent or empty the last term is none.
        """
        by_text = 0.0 if text.features is None else guidance.together
        weights = pass_weights([guidance.action - by_text, by_text])  # of nothing, the action, the action and the text
        copies, size = len(weights), len(text.absent)
        features = text.features[torch.arange(copies * size) % size] if by_text else None
        drop = torch.cat([torch.full_like(text.absent, number == 0) for number in weights])
        drop_text = torch.cat([text.absent | (number < 2) for number in weights])
        mask, past = stack_conditions(mask, copies), stack_conditions(past, copies)
        return Passes(list(weights.values()), action.repeated(copies), features, mask, past, drop, drop_text)


def require_pair(features: Features) -> None:
    """FeaturesMismatch unless features are of two people."""
    if features.persons != 2:
        raise FeaturesMismatch(f"a reaction is learnt from two people, '{features.kind}' is of {features.persons}: prepare "
                               "recordings of pairs")  # fmt: skip


def require_autoencoder(config: ReactionConfig, autoencoder: MotionAutoencoder | None) -> None:
    """FeaturesMismatch or ValueError unless an autoencoder is there where one is needed, and fits."""
    if not config.in_latents and autoencoder is None:
        return
    if not config.in_latents:
        raise ValueError("a reaction that is made in frames has no use for an autoencoder: with one, --objective meanflow")
    if autoencoder is None:
        raise ValueError("objective meanflow makes latents: give --autoencoder a checkpoint of train.train_autoencoder --causal")
    own = autoencoder.config
    own.features.require(config.features, "the autoencoder", "the reaction model")
    if not own.causal:
        raise ValueError("the autoencoder reads ahead: train one with train.train_autoencoder --causal")
    if own.downsampling != config.pred_len:
        raise ValueError(f"latents of {own.downsampling} frames, pieces of {config.pred_len}: give --pred_len {own.downsampling}")


def tokens_of(joints: Tensor, fps: float, config: ReactionConfig) -> Tensor:
    """Tokens (..., T, 165) in (-1, 1) of joints (..., T, J, 3) in metres: levels, or by how many levels these change."""
    found = levels(joints, fps, Scheme(config.semantic_levels))
    if config.semantic_delta:
        return changes(found).float() / config.semantic_levels
    return normalised(found, config.semantic_levels)


def action_share(progress: float, rise: float) -> float:
    """Share of samples that are made from the action's latent, not the reaction's own: rises from 0 to one half over the share
    `rise` of a training, which closes the gap to sampling; 1 where a model is judged."""
    if progress >= 1:
        return 1.0
    return 0.5 * min(1.0, progress / rise) if rise else 0.5


def dropped(chance: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Which samples (B,) are shown no action, and which no text, by `chance` (B,) in [0, 1): half of `share` neither, as many as
    `share` each no text alone and no action alone."""
    both, text, action = share / 2, share * 1.5, share * 2.5
    return (chance < both) | ((chance >= text) & (chance < action)), chance < text


def semantic_error(guess: Tensor, told: Tensor, mask: Tensor) -> Tensor:
    """Error (B,) of guessed semantics (B, T, N): squared of tokens, cross entropy of atomic actions, where there are any."""
    error = masked_l2(guess[..., :SEMANTIC_TOKENS], told[..., :SEMANTIC_TOKENS], mask)
    if guess.shape[-1] == SEMANTIC_TOKENS:
        return error
    entropy = -(told[..., SEMANTIC_TOKENS:] * guess[..., SEMANTIC_TOKENS:].log_softmax(-1)).sum(-1)  # (B, T)
    return error + (entropy * mask).sum(1) / mask.sum(1)


def guidance_of(model: ReactionModel, decoding: Decoding) -> Guidance:
    """The strengths to use, by a text and by the action: the model's own, one number for the text, or each by name."""
    own, asked = model.config.guidance, decoding.guidance_scale
    given = asked if isinstance(asked, Guidance) else Guidance(None if asked is None else float(asked))
    if given.interaction is not None or given.individual is not None:
        raise ValueError("this model reads one text: its strengths are of the text and of the action")
    if not model.config.cond_mask_prob:
        if asked is not None:
            log.warning("guidance is ignored: this model was trained with its conditions always present")
        return Guidance(together=1.0, action=1.0)
    strengths = {name: getattr(own if getattr(given, name) is None else given, name) for name in ("together", "action")}
    if not all(map(math.isfinite, strengths.values())):
        raise ValueError(f"guidance {list(strengths.values())}: expected finite numbers")
    return Guidance(**strengths)

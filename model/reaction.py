"""The reaction model of LS-ReMGM (IEEE TMM 2025) as one object: what one person does in answer to another.

No code or weights of it are published. This is a realisation by diffusion of what the paper tells: an action and its reaction
have latents that are kept regular, alike, and apart from those of other interactions; a reaction is made from a latent of the
action and from its semantics.
"""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.motion_semantics import Scheme, changes, levels, normalised
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import pass_weights, stack_conditions, weighted
from diffusion.interaction_losses import body_terms, near_joint_error, pair_terms
from diffusion.losses import masked_l2
from diffusion.reaction_losses import alike, discrimination, gaussian_kl
from diffusion.samplers import sample_noise
from model.capabilities import OWN, Decoding, Guidance, Request
from model.in2in import standing_still
from model.layers import Posterior
from model.lsremgm import check_lengths, run, smooth
from model.model import Draws, Model, require_only
from model.reaction_config import SEMANTIC_TOKENS, ReactionConfig
from model.reaction_network import Action, LatentEncoder, ReactionDenoiser, SemanticReader
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.randomness import rand, randint, randn

log = logging.getLogger(__name__)
OF_LATENT = 1  # tells the noise of latents from that of motion


class Reaction(Model):
    """Networks: `denoiser`, `action_encoder`, `reaction_encoder`, and `semantics`, where these are told.

    Its features are of two people, the one who acts first; mean and std are those of one person, whoever it is.
    """

    def __init__(self, config: ReactionConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):
        """text_encoder replaces the frozen one that the configuration names. FeaturesMismatch for features of one person."""
        config = config.resolved()
        require_pair(config.features)
        width = config.features.width
        networks = {"semantics": SemanticReader(config)} if config.num_semantics else {}
        networks |= {f"{name}_encoder": LatentEncoder(config, width) for name in ("action", "reaction")}
        super().__init__(config, statistics, networks | {"denoiser": ReactionDenoiser(config, width)})
        self.mean, self.std = (None if each is None else each[:width] for each in (self.mean, self.std))
        self.diffusion = Diffusion.create(
            config.noise_schedule, config.diffusion_steps, config.prediction,
            "fixed_small" if config.sigma_small else "fixed_large")
        self.text_encoder = text_encoder

    @property
    def denoiser(self) -> ReactionDenoiser:
        """Predicts the clean reaction from a noisy one."""
        return self.networks["denoiser"]

    def encode_text(self, texts: Sequence[str]) -> TextFeatures | None:
        """Features of the texts on the model's device; None for a model that reads none."""
        if self.config.condition != "text":
            return None
        if self.text_encoder is None:
            self.text_encoder = load_text_encoder(self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)
        return self.text_encoder.encode(list(texts)).to(self.device)

    def joints_of(self, people: Sequence[Tensor]) -> Tensor:
        """Joints (B, P, T, J, 3) in metres of the normalised motion (B, T, D) of each of two people."""
        return self.features.joints(torch.cat([self.denormalise(each) for each in people], dim=-1))

    # ------------------------------------------------------------------------------------------------------------ an action

    @torch.no_grad()
    def tell(self, joints: Tensor, mask: Tensor) -> Tensor:
        """Tokens and atomic actions (B, T, N) of joints (B, T, J, 3) in metres; tokens alone for a model without the latter."""
        with torch.autocast(joints.device.type, enabled=False):  # bfloat16 would move tokens by many levels
            tokens = tokens_of(joints, self.features.fps, self.config)
            if not self.config.tells_actions:
                return tokens
            return torch.cat([tokens, self.networks["semantics"].assign(tokens, mask.sum(1))], dim=-1)

    def read(self, told: Tensor | None) -> Tensor | None:
        """What is made (B, T, S) of told semantics (B, T, N); None for a model that is told none."""
        return self.networks["semantics"](told) if self.config.num_semantics else None

    def encode(self, which: str, motion: Tensor, read: Tensor | None, mask: Tensor) -> Posterior:
        """The Gaussian over latents (B, Z) of a normalised action or reaction (B, T, D), beside what is read of the action."""
        found = self.networks[f"{which}_encoder"](motion, read, mask)
        return Posterior(found.mean.float(), found.log_variance.float())

    @torch.no_grad()
    def embed_reactions(self, actors: Sequence[Tensor], reactions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean latents (N, C) of both, features [(T, D)] in their units in one world for each pair, on the CPU."""
        self.eval()
        means = []
        for actor, reaction in zip(actors, reactions, strict=True):  # one by one: their lengths differ
            frames = min(len(actor), len(reaction))
            both = [self.normalise(each[None, :frames].to(self.device)) for each in (actor, reaction)]
            mask = torch.ones(1, frames, dtype=torch.bool, device=self.device)
            read = self.read(self.tell(self.joints_of(both)[:, 0], mask))
            means.append([self.encode(which, each, read, mask).mean[0].cpu()
                          for which, each in zip(("action", "reaction"), both)])  # fmt: skip
        return tuple(torch.stack(each) for each in zip(*means))

    # ------------------------------------------------------------------------------------------------------------- training

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms of one denoising step; "loss" is their weighted sum. Person 1 of the batch acts, person 2 reacts.

        Terms of joints and of discrimination are one number of the whole batch, the others one per sample (B,).
        """
        config, samples = self.config, draws.samples
        mask = batch.mask.to(self.device)
        people = self.normalise(batch.motion.to(self.device).unflatten(-1, (2, -1))) * mask[..., None, None]
        actor, x0 = people.unbind(-2)  # (B, T, D)
        size, device = len(x0), x0.device
        # Drawn in this order, the noise last: its first frames then do not depend on how far a batch is padded.
        t = randint(samples, config.diffusion_steps, (size,), device=device)
        chances = rand(samples, (size, 2), device=device)
        spread = randn(samples, (size, config.encoder_dim), device=device)
        noise = randn(samples, x0.shape, device=device, dtype=x0.dtype)

        true = self.joints_of((actor, x0))  # (B, 2, T, J, 3)
        needed = config.num_semantics or config.discrimination
        told, answer = (self.tell(true[:, person], mask) if needed else None for person in range(2))
        read = self.read(told)
        action, reaction = self.encode("action", actor, read, mask), self.encode("reaction", x0, read, mask)
        as_sampled = (chances[:, 1] < action_share(draws.progress, config.latent_rise))[:, None]
        latent = torch.where(as_sampled, action.sample(spread), reaction.sample(spread))  # (B, Z)
        text = batch.text_features["text"].to(device) if config.condition == "text" else None
        drop, drop_text = dropped(chances[:, 0], config.cond_mask_prob)

        x = self.diffusion.q_sample(x0, t, noise)
        output, guess = self.denoiser(x, t, Action(latent, actor, read), text, mask, drop=drop, drop_text=drop_text)
        output = output.to(x0.dtype)
        terms = {"denoising": masked_l2(output, self.diffusion.target(x0, x, t, noise), mask)}
        terms |= self.joint_terms((actor, self.diffusion.x0_from_output(output, x, t)), (actor, x0), mask, t)
        terms |= self.latent_terms(action, reaction, told, mask)
        if guess is not None:
            terms["semantics"] = semantic_error(guess.float(), answer, mask)
        weights = {"denoising": 1.0} | {name: getattr(config, f"lambda_{name}") for name in terms if name != "denoising"}
        return {"loss": sum(weights[name] * term.mean() for name, term in terms.items()), **terms}

    def joint_terms(self, predicted: Sequence[Tensor], true: Sequence[Tensor], mask: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Errors of the reacting body and of what lies between the two, of the normalised motion (B, T, D) of each.

        Beyond its end a motion stands still, so that no jump to padding counts.
        """
        active = t <= self.config.latest_step
        predicted, true = (self.joints_of([standing_still(each, mask) for each in people]) for people in (predicted, true))
        mask = F.pad(mask, (0, 1))
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

    # ------------------------------------------------------------------------------------------------------------- sampling

    @torch.no_grad()
    def react(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units of the one who reacts, in the actor's world, of any lengths at once; an action
        that ends before its reaction goes on as its last frame. Raises LengthError, and ValueError for a request without `actor`.
        """
        config = self.eval().config
        lengths = [request.frames for request in requests]
        check_lengths(lengths, self.features, config.max_frames)
        for request in requests:
            require_only(request, ("actor",), "this model does not take it")
        frames = max(lengths)
        actor = torch.stack([self.normalise(self._actor(request, frames).to(self.device)) for request in requests])
        mask = torch.arange(frames, device=self.device) < torch.tensor(lengths, device=self.device)[:, None]  # (B, T)
        seeds = [request.seed for request in requests]
        texts = [request.text for request in requests]
        action = self.action_of(actor * mask[..., None], mask, seeds)
        denoise = self.guided(action, texts, mask, guidance_of(self, decoding))
        x = run(self, denoise, actor.shape, sample_noise(seeds), decoding)
        made = [row[:length] for row, length in zip(self.denormalise(x), lengths, strict=True)]
        return [smooth(each, decoding.smoothing) for each in made] if decoding.smoothing else made

    def _actor(self, request: Request, frames: int) -> Tensor:
        """Features (frames, D) of the one who acts."""
        actor, width = request.actor, self.features.width
        if actor is None:
            raise ValueError("this model answers an action: give the features of the one who acts")
        if not isinstance(request.text, str):
            raise ValueError(f"{len(request.text)} texts in a row: this model makes a motion as a whole, from one")
        if actor.ndim != 2 or actor.shape[1] != width or not len(actor):
            raise FeaturesMismatch(f"an action of shape {tuple(actor.shape)}, expected (frames, {width}) of one person")
        return actor[torch.arange(frames, device=actor.device).clamp(max=len(actor) - 1)]

    def action_of(self, actor: Tensor, mask: Tensor, seeds: Sequence[int]) -> Action:
        """What is told of normalised actions (B, T, D); each latent is drawn once from its own seed."""
        read = self.read(self.tell(self.joints_of((actor, actor))[:, 0], mask)) if self.config.num_semantics else None
        found = self.encode("action", actor, read, mask)
        spread = self.config.latent_temperature * sample_noise(seeds, OF_LATENT)(found.mean)
        return Action(found.sample(spread), actor, read)

    def guided(self, action: Action, texts: Sequence[str], mask: Tensor, guidance: Guidance) -> Denoise:
        """denoise(x, t) with the passes of both guidances in one batch; those that count nothing are left out.

        u + w_a (m(action) − u) + w_t (m(action, text) − m(action)); where a text is absent or empty the last term is none.
        """
        absent = torch.tensor([not text.strip() for text in texts], device=self.device)
        by_text = 0.0 if self.config.condition != "text" or bool(absent.all()) else guidance.together
        weights = pass_weights([guidance.action - by_text, by_text])  # of nothing, the action, the action and the text
        copies, size = len(weights), len(texts)
        features = self.encode_text([text if text.strip() else "" for text in texts]) if by_text else None
        if features is not None:
            features = features[torch.arange(copies * size) % size]
        nothing = torch.zeros_like(absent)
        drop = torch.cat([nothing | (number == 0) for number in weights])
        drop_text = torch.cat([absent | (number < 2) for number in weights])
        action, mask = action.repeated(copies), stack_conditions(mask, copies)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x, t, action, features, mask, drop=drop, drop_text=drop_text)[0].to(x.dtype)

        return weighted(denoise, list(weights.values()))


def require_pair(features: Features) -> None:
    """FeaturesMismatch unless features are of two people."""
    if features.persons != 2:
        raise FeaturesMismatch(f"a reaction is learnt from two people, '{features.kind}' is of {features.persons}: prepare "
                               "recordings of pairs")  # fmt: skip


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


def guidance_of(model: Reaction, decoding: Decoding) -> Guidance:
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

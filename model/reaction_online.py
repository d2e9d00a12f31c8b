"""Reactions piece by piece while the action goes on. A piece of a few frames reads what both did before it, and of the action its
own first frame too: so no frame reads a later one of the action.

What is read is seen from where the actor stands in that frame, so that it matters neither where in the world nor how late in the
action it is. A model learns pieces after its own ones, as they come about in sampling. Both are ours: the paper has neither.

A piece is made of frames by diffusion, or as one latent by MeanFlow, whose frames a causal autoencoder tells after those before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Features
from data_loaders.interhuman_features import Placement, back_from, placement, seen_from, told_by_then
from diffusion.losses import masked_l2
from diffusion.meanflow import between, data_at, mean_flow_sample, mean_flow_target, mean_flow_terms, times
from diffusion.samplers import Noise, sample_noise
from model.capabilities import OWN, Decoding, Guidance, Request
from model.lsremgm_sampling import run
from model.model import Draws, Generators
from model.reaction_base import (
    OF_LATENT,
    AskedText,
    Passes,
    ReactionModel,
    action_share,
    dropped,
    guidance_of,
    semantic_error,
)
from model.reaction_network import Action
from protos.randomness import rand, randint, randn


@dataclass(frozen=True)
class Past:
    """What a piece is made of: normalised motion of the actor (B, C + 1, D), the last frame being the piece's first, and the
    reaction (B, C, D) until then, both seen from `start`; how many (B,) of the C frames there are."""

    actor: Tensor
    reaction: Tensor
    start: Placement
    known: Tensor

    def mask(self, piece: int) -> Tensor:
        """(B, C + piece) True at frames that there are."""
        context = self.reaction.shape[1]
        return torch.arange(context + piece, device=self.known.device) >= (context - self.known)[:, None]


def past_of(model: ReactionModel, actor: Tensor, reaction: Tensor, known: Tensor) -> Past:
    """Of features in their units of the actor (B, C + 1, D) and of who reacts (B, C, D), of which only the last `known` (B,)
    frames are looked at."""
    features, context = model.features, reaction.shape[1]
    first = (context - known)[:, None, None]  # (B, 1, 1)
    frames = torch.arange(context + 1, device=actor.device)[None, :, None]
    actor = told_by_then(actor.take_along_dim(torch.maximum(frames, first), dim=1), features)  # stands still before
    start = standing(actor[:, -1:], features)
    actor, reaction = (model.normalise(seen_from(each, start, features)) for each in (actor, reaction))
    return Past(actor, reaction * (frames[:, :-1] >= first), start, known)


def standing(actor: Tensor, features: Features) -> Placement:
    """Where the actor stands in the first frame of features (B, T, D)."""
    return placement(actor[:, :1, features.blocks["positions"]].unflatten(-1, (-1, 3)), features.body)


def told_of(model: ReactionModel, past: Past) -> tuple[Tensor | None, Tensor | None]:
    """Semantics (B, C + 1, N) of the actor until now, and what is made of them (B, C + 1, S)."""
    if not (model.config.num_semantics or model.config.discrimination):
        return None, None
    whole = torch.ones_like(past.mask(1))
    told = model.tell(model.joints_of((past.actor, past.actor))[:, 0], whole)
    return told, model.read(told)


def action_in(past: Past, latent: Tensor, read: Tensor | None, piece: int) -> Action:
    """What is told of the action, zero in those frames (B, C + piece) that are still to come."""
    return Action(latent, *(None if each is None else F.pad(each, (0, 0, 0, piece - 1))
                            for each in (past.actor, read)))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- sampling


class Stream:
    """Reactions to actions that go on: called with the next frames of each, it answers with as many of each reaction."""

    def __init__(self, model: ReactionModel, requests: Sequence[Request], decoding: Decoding = OWN):
        """requests: their texts and seeds."""
        self.model, self.decoding, self.guidance = model, decoding, guidance_of(model, decoding)
        self.seeds, self.text, self.pieces = [request.seed for request in requests], model.read_texts(requests), 0
        self.spread = model.config.latent_temperature * sample_noise(self.seeds, OF_LATENT)(
            torch.empty(len(requests), model.config.encoder_dim, device=model.device))  # fmt: skip
        self.actor = self.reaction = torch.empty(len(requests), 0, model.features.width, device=model.device)

    def __call__(self, actor: Tensor) -> Tensor:
        """Features (B, n, D) in their units, in the actor's world, for the next n frames, at most pred_len, of the actor
        (B, n, D), of which the first is read. ValueError for another number."""
        model, piece = self.model, self.model.config.pred_len
        if actor.ndim != 3 or not 1 <= actor.shape[1] <= piece or actor.shape[::2] != self.actor.shape[::2]:
            raise ValueError(f"frames of shape {tuple(actor.shape)}, expected {len(self.actor)} actions of 1 to {piece} frames "
                             f"of {model.features.width} features")  # fmt: skip
        context, count = model.config.context_len, self.actor.shape[1]
        until = last_frames(torch.cat([self.actor, actor[:, :1]], dim=1), context + 1)
        reaction = last_frames(self.reaction, context) if count else actor[:, :1].expand(-1, context, -1)
        past = past_of(model, until, reaction, torch.full((len(actor),), min(count, context), device=model.device))
        noise = sample_noise(self.seeds, OF_LATENT + 1 + self.pieces)
        made = make_piece(model, past, self.spread, self.text, self.guidance, noise, self.decoding)[:, : actor.shape[1]]
        self.actor = torch.cat([self.actor, actor], dim=1)[:, -context:]
        self.reaction = torch.cat([self.reaction, made], dim=1)[:, -context:]
        self.pieces += 1
        return made


def last_frames(motion: Tensor, count: int) -> Tensor:
    """The last frames (B, count, D) of motion (B, T, D), the first of all repeated where there are fewer."""
    frames = torch.arange(motion.shape[1] - count, motion.shape[1], device=motion.device)
    return motion[:, frames.clamp(min=0)]


@torch.no_grad()
def make_piece(model: ReactionModel, past: Past, spread: Tensor, text: AskedText, guidance: Guidance, noise: Noise,
               decoding: Decoding = OWN) -> Tensor:
    """Features (B, piece, D) in their units, in the world, of the next frames of the reaction. spread: noise (B, Z) of
    latents."""
    piece = model.config.pred_len
    _, read = told_of(model, past)
    latent = model.encode("action", past.actor, read, past.mask(1)).sample(spread)
    if model.config.in_latents:
        made = made_by_flow(model, past, action_in(past, latent, read, 1), text, guidance, noise, decoding)
    else:
        denoise = model.guided(action_in(past, latent, read, piece), text, past.mask(piece), guidance, past.reaction)
        made = run(model, denoise, (len(latent), piece, model.features.width), noise, decoding)
    return back_from(model.denormalise(made), past.start, model.features)


def made_by_flow(model: ReactionModel, past: Past, action: Action, text: AskedText, guidance: Guidance, noise: Noise,
                 decoding: Decoding) -> Tensor:
    """The normalised reaction (B, piece, D) of a latent that is sampled by MeanFlow. ValueError for what only diffusions take."""
    steps, keep = flow_steps(model, decoding), model.whole(past.mask(0))
    before = model.latents_of(past.reaction, past.mask(0))  # (B, N, Z)
    flow = model.flow(model.passes(action, text, keep, guidance, before))
    made = mean_flow_sample(flow, noise(torch.empty_like(before[:, :1])), steps, decoding.on_step)
    return after(model, before, made, keep)


def flow_steps(model: ReactionModel, decoding: Decoding) -> int:
    """Steps of MeanFlow, one unless the checkpoint or a user says otherwise. ValueError for what only diffusions take."""
    for field in fields(decoding):
        if field.name in ("sampler", "eta", "order", "temperature", "top_k") and getattr(decoding, field.name) is not None:
            raise ValueError(f"{field.name}: this model samples by MeanFlow, which takes sampling_steps alone")
    steps = (model.config.sampling_steps or 1) if decoding.sampling_steps is None else decoding.sampling_steps
    if not isinstance(steps, int):
        raise ValueError(f"sampling_steps {steps!r}: this model samples by MeanFlow, in a number of even steps")
    return steps


def after(model: ReactionModel, before: Tensor, latent: Tensor, keep: Tensor) -> Tensor:
    """The normalised frames (B, piece, D) of the latent (B, 1, Z) of a piece after those before it (B, N, Z), keep (B, N) True at
    such as there are."""
    latents = torch.cat([before, latent], dim=1)
    return model.decoded(latents, F.pad(keep, (0, 1), value=True))[:, -model.config.pred_len :]


# ---------------------------------------------------------------------------------------------------------------- training


class Found(NamedTuple):
    """What a step of training finds of a piece: error (B,), the normalised frames (B, piece, D) that it leads to, in which
    samples (B,) these are near enough to be judged, the guessed semantics (B, piece, N) or None, and figures for the log."""

    error: Tensor
    made: Tensor
    active: Tensor
    guess: Tensor | None
    figures: dict[str, Tensor]


def piece_loss(model: ReactionModel, batch: Batch, draws: Draws) -> dict[str, Tensor]:
    """Terms of one denoising step of a piece, after as many of the model's own as are drawn for the batch; "loss" is their
    weighted sum. The batch holds windows of context_len + rollout · pred_len frames.
    """
    config, samples, device = model.config, draws.samples, model.device
    context, piece = config.context_len, config.pred_len
    actor, true = batch.motion.to(device).unflatten(-1, (2, -1)).unbind(-2)  # (B, T, D) in their units
    size = len(true)
    t = randint(samples, config.diffusion_steps, (size,), device=device)
    chances = rand(samples, (size, 4), device=device)
    spread = randn(samples, (size, config.encoder_dim), device=device)
    early = (chances[:, 3] * (context // piece + 1)).long() * piece  # of a start before that of the window
    known = torch.where(chances[:, 2] < config.start_share, early, context)
    text = batch.text_features["text"].to(device) if config.condition == "text" else None
    before = int(torch.randint(config.rollout, (1,), generator=draws.step, device=draws.step.device))
    own_piece = partial(
        make_piece, model, spread=spread, text=AskedText(text, torch.zeros_like(known, dtype=torch.bool)),
        guidance=Guidance(together=1.0, action=1.0),
        noise=lambda x: randn(samples, x.shape, device=x.device, dtype=x.dtype))  # fmt: skip
    reaction = after_own_pieces(model, actor, true, known, before, own_piece)

    window = slice(before * piece, before * piece + context + piece)
    actor, true, reaction = (each[:, window] for each in (actor, true, reaction))  # (B, C + piece, D)
    past = past_of(model, actor[:, : context + 1], reaction[:, :context], (known + before * piece).clamp(max=context))
    mask, until = past.mask(piece), past.mask(1)
    actor, true = (model.normalise(seen_from(each, past.start, model.features)) for each in (actor, true))
    told, read = told_of(model, past)
    answered = F.pad(read, (0, 0, 0, piece - 1)) if read is not None else None
    posteriors = (model.encode("action", past.actor, read, until),
                  model.encode("reaction", true * mask[..., None], answered, mask))  # fmt: skip
    as_sampled = (chances[:, 1] < action_share(draws.progress, config.latent_rise))[:, None]
    latent = torch.where(as_sampled, *(each.sample(spread) for each in posteriors))
    drop, drop_text = dropped(chances[:, 0], config.cond_mask_prob)

    x0 = true[:, context:]
    if config.in_latents:
        latents = model.latents_of(torch.cat([past.reaction, x0], dim=1), mask)  # (B, N + 1, Z)
        keep, before = model.whole(past.mask(0)), latents[:, :-1]
        asked = Passes((1.0,), action_in(past, latent, read, 1), text, keep, before, drop, drop_text)
        found = flow_found(model, asked, latents[:, -1:], samples)
    else:
        asked = Passes((1.0,), action_in(past, latent, read, piece), text, mask, past.reaction, drop, drop_text)
        found = frames_found(model, asked, x0, t, randn(samples, x0.shape, device=device))
    terms = {"denoising": found.error}
    last = past.reaction[:, -1:]  # from which the piece moves on
    predicted, aim = ((actor[:, context - 1 :], torch.cat([last, each], dim=1)) for each in (found.made, x0))
    terms |= model.joint_terms(predicted, aim, mask[:, context - 1 :], found.active)
    terms |= model.latent_terms(*posteriors, told, until)
    if found.guess is not None:
        own = model.tell(model.joints_of((true, true))[:, 0], torch.ones_like(mask))[:, context:]
        terms["semantics"] = semantic_error(found.guess.float(), own, mask[:, context:])
    return {"loss": model.weighted_sum(terms), **terms, **found.figures}


def frames_found(model: ReactionModel, asked: Passes, x0: Tensor, t: Tensor, noise: Tensor) -> Found:
    """Of denoising the frames x0 (B, piece, D) at steps t (B,)."""
    x = model.diffusion.q_sample(x0, t, noise)
    output, guess = model.denoiser(x, t, asked.action, asked.text, asked.mask, past=asked.past, drop=asked.drop,
                                   drop_text=asked.drop_text)  # fmt: skip
    output = output.to(x0.dtype)
    error = masked_l2(output, model.diffusion.target(x0, x, t, noise), asked.mask[:, -x0.shape[1] :])
    return Found(error, model.diffusion.x0_from_output(output, x, t), t <= model.config.latest_step, guess, {})


def flow_found(model: ReactionModel, asked: Passes, x0: Tensor, samples: Generators) -> Found:
    """Of the average velocity of the latent x0 (B, 1, Z). Frames are judged where it is the velocity at a moment, and leads to
    data."""
    config, size, device = model.config, len(x0), x0.device
    r, t = times(randn(samples, (size, 2), device=device), rand(samples, (size, 1), device=device)[:, 0], config.instant_share)
    noise = randn(samples, x0.shape, device=device)
    z = between(x0, noise, t)
    u, guess, memory = model.denoiser(z, r, t, model.remembered(asked))
    u = u.to(x0.dtype)
    target = mean_flow_target(lambda *given: model.denoiser(*given, memory)[0].to(x0.dtype), z, noise - x0, r, t)
    terms = mean_flow_terms(u, target)
    active = (r == t) & (t <= config.latest_step / config.diffusion_steps)
    made = after(model, asked.past, data_at(z, u, t), asked.mask)
    return Found(terms["loss"], made, active, guess, {"squared_error": terms["squared_error"]})


def after_own_pieces(model: ReactionModel, actor: Tensor, true: Tensor, known: Tensor, count: int,
                     make: Callable[[Past], Tensor]) -> Tensor:
    """The reaction (B, T, D) whose first `count` pieces after the context are those that make(past) makes, each after its own."""
    context, piece, reaction = model.config.context_len, model.config.pred_len, true.clone()
    for first in range(0, count * piece, piece):
        past = past_of(model, actor[:, first : first + context + 1], reaction[:, first : first + context],
                       (known + first).clamp(max=context))  # fmt: skip
        reaction[:, first + context : first + context + piece] = make(past)
    return reaction


def latest_latents(model: ReactionModel, actor: Tensor, reaction: Tensor) -> tuple[Tensor, Tensor]:
    """Mean latents (B, Z) of the latest piece of pairs (B, T, D) in their units with what is read of the past."""
    context, piece, frames = model.config.context_len, model.config.pred_len, actor.shape[1]
    first = max(frames - piece, 0)  # of the piece
    chosen = torch.arange(first - context, first + piece, device=actor.device).clamp(0, frames - 1)
    known = torch.full((len(actor),), min(first, context), device=actor.device)
    past = past_of(model, actor[:, chosen[: context + 1]], reaction[:, chosen[:context]], known)
    mask = past.mask(piece)
    answer = model.normalise(seen_from(reaction[:, chosen], past.start, model.features)) * mask[..., None]
    _, read = told_of(model, past)
    answered = F.pad(read, (0, 0, 0, piece - 1)) if read is not None else None
    return (model.encode("action", past.actor, read, past.mask(1)).mean,
            model.encode("reaction", answer, answered, mask).mean)  # fmt: skip

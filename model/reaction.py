"""The reaction model of LS-ReMGM (IEEE TMM 2025) as one object: what one person does in answer to another.

No code or weights of it are published. This is a realisation by diffusion of what the paper tells: an action and its reaction
have latents that are kept regular, alike, and apart from those of other interactions; a reaction is made from a latent of the
action and from its semantics. It is made as a whole, or, online, piece by piece while the action goes on.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.corpus import Batch
from diffusion.losses import masked_l2
from diffusion.samplers import sample_noise
from model.capabilities import OWN, Decoding, Request
from model.in2in import standing_still
from model.lsremgm_sampling import check_lengths, run, smooth
from model.model import Draws, require_only
from model.reaction_base import OF_LATENT, ReactionModel, action_share, dropped, guidance_of, semantic_error
from model.reaction_network import Action
from model.reaction_online import Stream, latest_latents, piece_loss
from protos.randomness import rand, randint, randn


class Reaction(ReactionModel):
    """Reacts to actions; trained on pairs whose first person acts."""

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms of one denoising step; "loss" is their weighted sum. Person 1 of the batch acts, person 2 reacts.

        Terms of joints and of discrimination are one number of the whole batch, the others one per sample (B,). Beyond its end a
        motion stands still, so that no jump to padding counts.
        """
        if self.config.online:
            return piece_loss(self, batch, draws)
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
        posteriors = self.encode("action", actor, read, mask), self.encode("reaction", x0, read, mask)
        as_sampled = (chances[:, 1] < action_share(draws.progress, config.latent_rise))[:, None]
        latent = torch.where(as_sampled, *(each.sample(spread) for each in posteriors))  # (B, Z)
        text = batch.text_features["text"].to(device) if config.condition == "text" else None
        drop, drop_text = dropped(chances[:, 0], config.cond_mask_prob)

        x = self.diffusion.q_sample(x0, t, noise)
        output, guess = self.denoiser(x, t, Action(latent, actor, read), text, mask, drop=drop, drop_text=drop_text)
        output = output.to(x0.dtype)
        terms = {"denoising": masked_l2(output, self.diffusion.target(x0, x, t, noise), mask)}
        predicted, true = ([standing_still(each, mask) for each in (actor, reaction)]
                           for reaction in (self.diffusion.x0_from_output(output, x, t), x0))  # fmt: skip
        terms |= self.joint_terms(predicted, true, F.pad(mask, (0, 1)), t <= config.latest_step)
        terms |= self.latent_terms(*posteriors, told, mask)
        if guess is not None:
            terms["semantics"] = semantic_error(guess.float(), answer, mask)
        return {"loss": self.weighted_sum(terms), **terms}

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
        actor = torch.stack([self.acted(request, max(lengths)) for request in requests])  # (B, T, D)
        if config.online:
            stream = Stream(self, requests, decoding)
            made = torch.cat([stream(piece) for piece in actor.split(config.pred_len, dim=1)], dim=1)
        else:
            made = self._made_whole(actor, requests, decoding)
        made = [self.completed(row[:length]) for row, length in zip(made, lengths, strict=True)]
        return [smooth(each, decoding.smoothing) for each in made] if decoding.smoothing else made

    @torch.no_grad()
    def stream(self, actor: Iterable[Tensor], request: Request, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features (pred_len, D) of the one who reacts for every so many frames (pred_len, D) of the one who acts, in the actor's
        world; none reads a later frame of the action. The request says text and seed. ValueError for a model that is not online.
        """
        if not self.eval().config.online:
            raise ValueError("this model reacts to an action as a whole: train one with --preset online")
        going_on = Stream(self, [request], decoding)
        for piece in actor:
            yield going_on(piece[None].to(self.device))[0]

    def _made_whole(self, actor: Tensor, requests: Sequence[Request], decoding: Decoding) -> Tensor:
        """Features (B, T, D) in their units, in answer to those of the actor (B, T, D)."""
        lengths = torch.tensor([request.frames for request in requests], device=self.device)
        mask = torch.arange(actor.shape[1], device=self.device) < lengths[:, None]  # (B, T)
        seeds = [request.seed for request in requests]
        action = self.action_of(self.normalise(actor) * mask[..., None], mask, seeds)
        denoise = self.guided(action, self.read_texts(requests), mask, guidance_of(self, decoding))
        shape = *actor.shape[:2], self.columns.stop
        return self.denormalise(run(self, denoise, shape, sample_noise(seeds), decoding))

    def action_of(self, actor: Tensor, mask: Tensor, seeds: Sequence[int]) -> Action:
        """What is told of normalised actions (B, T, D); each latent is drawn once from its own seed."""
        read = self.read(self.tell(self.joints_of((actor, actor))[:, 0], mask)) if self.config.num_semantics else None
        found = self.encode("action", actor, read, mask)
        spread = self.config.latent_temperature * sample_noise(seeds, OF_LATENT)(found.mean)
        return Action(found.sample(spread), actor, read)

    @torch.no_grad()
    def embed_reactions(self, actors: Sequence[Tensor], reactions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean latents (N, C) of both, features [(T, D)] in their units in one world for each pair, on the CPU; online those of
        the latest frames that are read at once."""
        self.eval()
        means = []
        for actor, reaction in zip(actors, reactions, strict=True):  # one by one: their lengths differ
            frames = min(len(actor), len(reaction))
            both = [each[None, :frames].to(self.device) for each in (actor, reaction)]
            found = latest_latents(self, *both) if self.config.online else self._latents(*map(self.normalise, both))
            means.append([each[0].cpu() for each in found])
        return tuple(torch.stack(each) for each in zip(*means))

    def _latents(self, actor: Tensor, reaction: Tensor) -> tuple[Tensor, Tensor]:
        """Mean latents (B, Z) of normalised motion (B, T, D)."""
        mask = torch.ones(actor.shape[:2], dtype=torch.bool, device=self.device)
        read = self.read(self.tell(self.joints_of((actor, actor))[:, 0], mask))
        return self.encode("action", actor, read, mask).mean, self.encode("reaction", reaction, read, mask).mean

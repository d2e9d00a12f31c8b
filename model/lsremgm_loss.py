"""The training objective of LS-ReMGM: one denoising step per sample. Tevet et al. 2023, §3; DiP: Tevet et al. 2025."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from data_loaders.corpus import Batch
from data_loaders.edit_masks import TargetLocation, target_location, target_rows
from data_loaders.features import FeaturesMismatch
from diffusion.losses import LossWeights, MotionTerms, masked_goal_l2, training_loss
from model.lsremgm_system import LSReMGM
from model.text_encoders import TextFeatures
from protos.randomness import rand, randint, randn

Generators = torch.Generator | Sequence[torch.Generator]

# DiP draws one of these sets per sample; each joint comes with a heading.
TARGET_SETS = ((), ("pelvis",), ("traj",), ("right_wrist",), ("left_wrist",), ("right_foot",), ("left_foot",))


def loss(nets: LSReMGM, batch: Batch, generator: Generators, body_joints=None) -> dict[str, Tensor]:
    """Terms (B,) of one training step; "loss" is their weighted sum.

    The first context_len frames of a prefix model's crop are its prefix. `generator`:
    one, or one per sample. `body_joints` (features -> joints) is needed for joint losses of rotation data only.
    """
    config, device = nets.config, nets.device
    mask = batch.mask.to(device)
    motion = nets.normalise(batch.motion.to(device)) * mask[..., None]  # (B, T, D), zero beyond each end
    size = len(motion)
    # Drawn in this order, the noise last: its first frames then do not depend on how far a batch is padded.
    t = randint(generator, config.diffusion_steps, (size,), device=device)
    chances = rand(generator, (size, 3), device=device)
    drop = chances[:, 0] < config.cond_mask_prob
    text = nets.encode_text(batch.texts)
    if text is not None and (config.text_noise or config.word_drop):
        seeds = randint(generator, 2**31, (size, 3), device=device)
        text = perturbed(text, seeds.tolist(), config.text_noise, config.word_drop)
    with torch.no_grad():
        posterior_noise = _posterior_noise(nets, motion, generator)
        x0, mask = nets.to_diffused(motion, mask, posterior_noise)
    prefix = None
    if config.context_len:
        prefix, x0, mask = x0[:, : config.context_len], x0[:, config.context_len:], mask[:, config.context_len:]
    noise = randn(generator, x0.shape, device=device, dtype=x0.dtype)
    target = draw_target(nets, x0, mask, chances[:, 1]) if config.target_encoder != "none" else None
    denoise = partial(
        nets.denoiser, text=text, mask=mask, prefix=prefix, target=target, drop=drop,
        action=_actions(nets, batch), drop_target=chances[:, 2] < config.cond_mask_prob)
    weights = LossWeights(velocity=config.lambda_vel, joints=config.lambda_rcxyz, foot_contact=config.lambda_fc,
                          goal=config.lambda_target_loc if target is not None else 0.0,
                          min_snr_gamma=config.min_snr_gamma or None, snr_power=config.snr_power,
                          snr_floor=config.snr_floor, calm_power=config.calm_power)
    terms = MotionTerms(joints=body_joints or _joints_of(nets), velocity_columns=_velocity_columns(nets),
                        goal=partial(goal_error, nets, target, mask))
    return training_loss(denoise, x0, t, noise, mask, nets.diffusion, weights, terms)


def perturbed(text: TextFeatures, seeds: Sequence[Sequence[int]], noise: float, word_drop: float) -> TextFeatures:
    """Text features with Gaussian noise, of `noise` times their own size, and without a share `word_drop` of the words.

    A few thousand captions are soon known by heart; this makes what is learnt of them hold for what is said otherwise.
    The first token, which stands for the whole text, stays. Three seeds per text, so that what happens to it depends
    neither on its neighbours nor on how far it is padded.
    """
    pooled, tokens, mask = text.pooled, text.tokens, text.mask
    for_pooled, for_tokens, for_mask = ([torch.Generator().manual_seed(s) for s in column] for column in zip(*seeds))
    if noise:
        size = pooled.square().mean(-1, keepdim=True).sqrt()  # (B, 1)
        pooled = pooled + noise * size * randn(for_pooled, pooled.shape).to(pooled)
        squares = (tokens.square().mean(-1) * mask).sum(1) / mask.sum(1)  # (B,)
        tokens = tokens + noise * squares.sqrt()[:, None, None] * randn(for_tokens, tokens.shape).to(tokens)
    if word_drop:
        kept = rand(for_mask, mask.shape).to(mask.device) >= word_drop
        kept[:, 0] = True
        mask = mask & kept
    return TextFeatures(pooled, tokens, mask)


def draw_target(nets: LSReMGM, x0: Tensor, mask: Tensor, chance: Tensor) -> TargetLocation:
    """Where each motion ends, for a joint set drawn by `chance` (B,) in [0, 1) out of TARGET_SETS."""
    sets = [TARGET_SETS[i] for i in (chance * len(TARGET_SETS)).long().clamp(max=len(TARGET_SETS) - 1).tolist()]
    valid = target_rows(sets, [bool(names) for names in sets])
    features = nets.denormalise(x0)
    return target_location(features, mask.sum(1), valid.to(x0.device), nets.config.motion_features)


def goal_error(nets: LSReMGM, target: TargetLocation, mask: Tensor, x0: Tensor) -> Tensor:
    """Squared distance (B,) between where predicted motion ends and the target."""
    reached = target_location(nets.denormalise(x0), mask.sum(1), target.valid, nets.config.motion_features)
    return masked_goal_l2(reached.values, target.values, target.valid)


def _posterior_noise(nets: LSReMGM, motion: Tensor, generator: Generators) -> Tensor | None:
    if nets.autoencoder is None:
        return None
    shape = (len(motion), motion.shape[1] // nets.frames_per_token, nets.config.num_features)
    return randn(generator, shape, device=motion.device, dtype=motion.dtype)


def _joints_of(nets: LSReMGM):
    if nets.config.features == "humanml" and nets.autoencoder is None:
        return lambda x: nets.joints(nets.denormalise(x))

    def missing(x: Tensor) -> Tensor:
        raise FeaturesMismatch("lambda_rcxyz and lambda_fc compare joints: rotation data needs a body model "
                                  "for them, latents cannot have them; set both to 0")

    return missing


def _velocity_columns(nets: LSReMGM) -> int:
    """End of the columns whose differences count: as published, all but the last row of features."""
    if nets.autoencoder is not None:
        return nets.config.num_features
    return -6 if nets.config.features == "smpl_rot6d" else -1


def _actions(nets: LSReMGM, batch: Batch) -> Tensor | None:
    if nets.config.condition != "action":
        return None
    try:
        return torch.tensor([int(text) for text in batch.texts], device=nets.device)
    except ValueError:
        raise FeaturesMismatch("an action model trains on action numbers in place of texts") from None

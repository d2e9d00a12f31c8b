"""A convolutional motion autoencoder: 4 frames -> one 64-channel latent, so that diffusion runs on a quarter of the tokens.

It reads and writes the columns of the HumanML3D features that joints are decoded from (root, joint positions, contacts), or of
people in a world all columns of one person, seen from where the partner stands; its losses are measured on joints in metres,
where smoothness and planted feet can be seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from data_loaders.corpus import Batch
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.interhuman_features import placement, seen_from
from model.across_processes import total
from model.autoencoder_config import AutoencoderConfig
from model.layers import ConvBlock, Posterior
from model.model import Draws, Model
from protos.randomness import randn

BLOCKS = ("root_yaw", "root_velocity", "root_height", "ric", "contact")  # of the features, in the order of the columns
NUM_CONTACTS = 4  # the last of these columns
FIRST_LOG_VARIANCE = -6.0  # of latents: with more noise than signal at first, nothing passes for a thousand steps
SLOW = 0.1  # m/s that joints at rest are taken to move in the term `subtle`
TERM_WEIGHTS = {
    "columns": 0.5, "contact": 0.2, "joints": 20.0, "path": 2.0, "velocity": 2.0, "acceleration": 0.05, "subtle": 2.0,
    "plant": 2.0,
}  # fmt: skip


def columns_of(features: Features) -> list[int]:
    """Indices of the feature columns that the autoencoder keeps: root, joint positions, contacts; of a person in a world all."""
    if features.in_world:
        return list(range(features.width))
    if features.kind != "humanml":
        raise FeaturesMismatch(f"a motion autoencoder reads humanml features, or those of people in a world, not {features.kind}")
    return [i for name in BLOCKS for i in range(features.blocks[name].start, features.blocks[name].stop)]


def seen_by_partners(people: Tensor, last: Tensor, features: Features) -> Tensor:
    """Rows (B P, T, D) of each of P people, those of the first sample first, seen from where the partner, or who is alone, stands
    in row `last` (B,) of features (B, T, P D)."""
    count = features.persons
    rows = people.unflatten(-1, (count, -1)).transpose(1, 2)  # (B, P, T, D)
    others = rows.roll(1, dims=1).flatten(0, 1).take_along_dim(last.repeat_interleave(count)[:, None, None], dim=1)
    joints = others[..., features.blocks["positions"]].unflatten(-1, (-1, 3))  # (B P, 1, J, 3)
    return seen_from(rows.flatten(0, 1), placement(joints, features.body), features)


class AutoencoderNetwork(nn.Module):
    """encode: columns (B, T, D) -> Posterior (B, T/4, C); decode: latents (B, N, C) -> columns (B, 4N, D), normalised."""

    LATENTS = ("patch_in.", "encoder.", "to_posterior.", "latent_")  # what latents depend on

    def __init__(self, config: AutoencoderConfig, num_columns: int):
        super().__init__()
        c, self.downsampling = config, config.downsampling
        self.patch_in = nn.Linear(c.downsampling * num_columns, c.width)
        self.encoder = nn.ModuleList(ConvBlock(c.width, 3, c.causal) for _ in range(c.num_blocks))
        self.to_posterior = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, 2 * c.latent_channels))
        nn.init.constant_(self.to_posterior[1].bias[c.latent_channels :], FIRST_LOG_VARIANCE)
        self.from_latent = nn.Linear(c.latent_channels, c.width)
        self.decoder = nn.ModuleList(ConvBlock(c.width, 3, c.causal) for _ in range(c.num_blocks))
        self.unpatch = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, c.downsampling * c.fine_width))
        self.fine = nn.ModuleList(ConvBlock(c.fine_width, 5, c.causal) for _ in range(c.num_fine_blocks))
        self.columns_out = nn.Sequential(nn.LayerNorm(c.fine_width), nn.Linear(c.fine_width, num_columns))
        of_frames = 2 * (5 // 2) * c.num_fine_blocks
        self.reach = 2 * c.num_blocks + -(-of_frames // c.downsampling) + 1  # latents to either side on which a frame depends
        # Latents are divided by their spread over the training set, so that diffusion sees unit variance.
        self.register_buffer("latent_mean", torch.zeros(c.latent_channels))
        self.register_buffer("latent_std", torch.ones(c.latent_channels))

    def freeze_encoder(self) -> None:
        """Trains no more what makes latents."""
        for name, parameter in self.named_parameters():
            if name.startswith(self.LATENTS):
                parameter.requires_grad_(False)

    def encode(self, x: Tensor, mask: Tensor) -> Posterior:
        """x (B, T, D) with T a multiple of 4; mask (B, T) True at real frames, whole latents of them."""
        r = self.downsampling
        kept = mask[:, ::r, None].to(x.dtype)  # (B, N, 1)
        h = self.patch_in(rearrange(x * mask[..., None], "b (n r) d -> b n (r d)", r=r))  # (B, N, width)
        for block in self.encoder:
            h = block(h, kept)
        mean, log_variance = self.to_posterior(h).chunk(2, dim=-1)  # (B, N, C)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def decode(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Columns (B, 4N, D) from latents (B, N, C); mask (B, 4N) True at the frames that will be kept."""
        r = self.downsampling
        mask = z.new_ones(z.shape[0], z.shape[1] * r, dtype=torch.bool) if mask is None else mask
        kept = mask[:, ::r, None].to(z.dtype)
        h = self.from_latent(z)
        for block in self.decoder:
            h = block(h, kept)
        h = rearrange(self.unpatch(h), "b n (r c) -> b (n r) c", r=r)  # (B, T, fine)
        fine = mask[..., None].to(h.dtype)
        for block in self.fine:
            h = block(h, fine)
        return self.columns_out(h)  # (B, T, D)

    def normalise(self, z: Tensor) -> Tensor:
        """Latents (B, N, C) of unit variance."""
        return (z - self.latent_mean) / self.latent_std

    def denormalise(self, z: Tensor) -> Tensor:
        """Latents (B, N, C) as `decode` reads them."""
        return z * self.latent_std + self.latent_mean


class MotionAutoencoder(Model):
    """The network with the mean and std of the columns that it reads."""

    def __init__(self, config: AutoencoderConfig, statistics: Statistics | None, parts: Mapping[str, Model] | None = None):
        self.columns = columns_of(config.features)
        self.person = replace(config.features, kind="interhuman_person") if config.features.in_world else config.features
        super().__init__(config, statistics, {"autoencoder": AutoencoderNetwork(config, len(self.columns))})
        if statistics is not None:
            self.mean, self.std = self.mean[self.columns], self.std[self.columns]

    @property
    def network(self) -> AutoencoderNetwork:
        """Encoder and decoder, on normalised columns."""
        return self.networks["autoencoder"]

    def normalise(self, features: Tensor) -> Tensor:
        """Normalised columns (..., C) of features (..., D) in their units."""
        return super().normalise(features[..., self.columns])

    def denormalise(self, motion: Tensor) -> Tensor:
        """Columns (..., C) in the units of the features."""
        return super().denormalise(motion)

    def masked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised columns, zero beyond each end, and mask; of P people in a world (B P, T, C)."""
        motion, mask = batch.motion.to(self.device), batch.mask.to(self.device)
        mask = mask.repeat_interleave(self.features.persons, dim=0)
        return self.normalise(self.seen(motion, batch.lengths.to(self.device))) * mask[..., None], mask

    def seen(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """Features (B P, T, D) of one person each out of those of P people (B, T, P D), which in a world are seen from where the
        partner stands as the last latent begins."""
        if not self.features.in_world:
            return motion
        return seen_by_partners(motion, (lengths - self.config.downsampling).clamp(min=0), self.features)

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Weighted terms of reconstruction and KL; windows are whole latents long."""
        x, mask = self.masked(batch)
        network, c = self.network, self.config
        posterior = network.encode(x, mask)
        kept = mask[:, :: c.downsampling, None].float()
        people, (_, tokens, channels) = self.features.persons, posterior.mean.shape
        noise = randn(draws.samples, (len(x) // people, people * tokens, channels), device=x.device).view_as(posterior.mean)
        spread = covariance(posterior.mean, kept)
        added = c.latent_noise * spread.diagonal().clamp(min=1e-8).sqrt() if c.latent_noise else 0.0
        reconstruction = network.decode(posterior.sample(noise, added), mask).float()
        terms = self.reconstruction_terms(reconstruction, x, mask)
        terms = {name: TERM_WEIGHTS[name] * value for name, value in terms.items()}
        if c.decorrelation:
            terms["correlation"] = c.decorrelation * correlation(spread)
        terms["kl"] = c.kl_weight * (posterior.kl().float().mean(-1, keepdim=True) * kept).sum() / kept.sum()
        return terms

    def reconstruction_terms(self, predicted: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Loss terms between normalised columns (B, T, C); means over real frames.

        `joints` and `path` compare body-frame and world positions, `velocity` and `acceleration` their differences over time
        (m/s, m/s^2, scaled), `plant` the speed of feet that the recording has on the ground. `subtle` is `velocity` relative
        to how fast a joint moves in its clip: the small wave of a raised hand counts as much as the swing of a runner's arm.
        """
        frames, fps = mask[..., None].to(predicted.dtype), self.features.fps  # (B, T, 1)
        a, b = (self.denormalise(x) for x in (predicted, target))
        ja, jb = (self.joints_of(x) for x in (a, b))  # (B, T, J, 3) in metres
        va, vb = ((j[:, 1:] - j[:, :-1]) * fps for j in (ja, jb))  # m/s
        aa, ab = ((v[:, 1:] - v[:, :-1]) * fps for v in (va, vb))  # m/s^2
        planted = b[:, :-1, -NUM_CONTACTS:] > 0.5  # (B, T-1, 4)
        foot_speed = va[:, :, list(self.features.body.feet)].norm(dim=-1) * planted  # (B, T-1, 4)
        ahead = frames[:, 1:]
        moving = ((vb.square().sum(-1) * ahead).sum(1, keepdim=True) / ahead.sum(1, keepdim=True).clamp(min=1)).sqrt()
        relative = (va - vb).abs() / (moving + SLOW)[..., None]  # moving (B, 1, J)
        return {
            "columns": average((predicted - target).abs()[..., :-NUM_CONTACTS], frames),
            "contact": average((a - b)[..., -NUM_CONTACTS:].abs(), frames),
            "joints": average((self.about_root(a) - self.about_root(b)).abs(), frames),
            "path": average((ja - jb).abs(), frames),
            "velocity": average((va - vb).abs(), ahead),
            "acceleration": average((aa - ab).abs(), frames[:, 2:]),
            "subtle": average(relative, ahead),
            "plant": average(foot_speed, ahead),
        }

    def joints_of(self, columns: Tensor) -> Tensor:
        """Joints (B, T, J, 3) in metres of columns (B, T, C) in their units."""
        return self.person.joints(columns[..., : self.person.read_columns].float())

    def about_root(self, columns: Tensor) -> Tensor:
        """Numbers (B, T, 3 N) in metres of columns (B, T, C): where joints are about the root."""
        if not self.features.in_world:
            return columns[..., 4:-NUM_CONTACTS]
        joints = self.joints_of(columns)
        return (joints - joints[..., :1, :]).flatten(-2)

    @torch.no_grad()
    def reconstruction_error(self, batch: Batch) -> dict[str, float]:
        """What decoding the mean latents of a batch loses: MPJPE and path error in mm, jerk and planted-foot speed over real,
        where there is any."""
        x, mask = self.masked(batch)
        y = self.network.decode(self.network.encode(x, mask).mean, mask).float()
        terms, real = self.reconstruction_terms(y, x, mask), self.reconstruction_terms(x, x, mask)
        columns = [self.denormalise(v) for v in (y, x)]
        joints = [self.joints_of(v) for v in columns]  # (B, T, J, 3) each
        local = [self.about_root(v).unflatten(-1, (-1, 3)) for v in columns]
        inner = (mask[:, 3:] & mask[:, :-3])[..., None]
        jerks = [(j.diff(n=3, dim=1).norm(dim=-1) * inner).sum() for j in joints]
        shares = {"jerk_ratio": (jerks[0], jerks[1]), "plant_ratio": (terms["plant"], real["plant"])}
        return {
            "loss": float(sum(TERM_WEIGHTS[name] * value for name, value in terms.items())),
            "mpjpe_mm": float(1000 * (local[0] - local[1]).norm(dim=-1)[mask].mean()),
            "path_mm": float(1000 * (joints[0] - joints[1]).norm(dim=-1)[mask].mean()),
            **{name: float(made / given) for name, (made, given) in shares.items() if given > 0},
        }

    @torch.no_grad()
    def measure_latents(self, clips: Iterable[np.ndarray]) -> None:
        """Sets mean and std of the latents, by which diffusion sees unit variance, from features [(T, D)] in their units."""
        network, step, latents = self.network, self.config.downsampling, []
        for clip in clips:
            rows = torch.from_numpy(np.array(clip[: len(clip) // step * step], np.float32))[None].to(self.device)
            x = self.normalise(self.seen(rows, torch.tensor([rows.shape[1]], device=self.device)))
            latents.append(network.encode(x, x.new_ones(x.shape[:2], dtype=torch.bool)).mean.flatten(0, 1))
        latents = torch.cat(latents)  # (N, C)
        network.latent_mean.copy_(latents.mean(0))
        network.latent_std.copy_(latents.std(0).clamp(min=1e-3))


def average(x: Tensor, keep: Tensor) -> Tensor:
    """Mean of x (B, T, ...) over frames with keep (B, T, 1) = 1."""
    x = x.flatten(2)
    return (x * keep).sum() / (keep.sum() * x.shape[-1]).clamp(min=1)


def covariance(latents: Tensor, kept: Tensor) -> Tensor:
    """Covariance (C, C) of the latents (B, N, C) with kept (B, N, 1) = 1, over the batches of all processes."""
    rows = (latents.float() * kept).flatten(0, 1)  # (B N, C)
    sums = total(torch.cat([(rows.mT @ rows).flatten(), rows.sum(0), kept.sum()[None]]))
    channels = latents.shape[-1]
    mean = sums[-1 - channels : -1] / sums[-1]
    return sums[: channels**2].reshape(channels, channels) / sums[-1] - mean.outer(mean)


def correlation(covariance: Tensor) -> Tensor:
    """Mean square of the correlations between different channels, of a covariance (C, C)."""
    spread = covariance.diagonal().clamp(min=1e-8).sqrt()
    between = covariance / spread.outer(spread)
    channels = len(covariance)
    return (between.square().sum() - between.diagonal().square().sum()) / max(channels * (channels - 1), 1)

"""A convolutional motion autoencoder: 4 frames -> one 64-channel latent, so that diffusion runs on a quarter of the tokens.

It reads and writes the columns of the HumanML3D features that joints are decoded from (root, joint positions, contacts);
its losses are measured on joints in metres, where smoothness and planted feet can be seen.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Statistics
from data_loaders.features import Features
from model.across_processes import total
from model.loading import CheckpointError, checkpoint_errors, convert_settings, load_checked, made_for
from model.run_folder import WEIGHTS_FILE, checkpoint_in
from protos.bounds import CHANNELS, LAYERS, WEIGHT, Range, check_bounds
from protos.files import encode_json, write_atomically
from protos.reading import read_json
from protos.weights import read_safetensors

SYSTEM = "motion_autoencoder"  # in its config.json


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder and the weights of its loss terms."""

    num_columns: Annotated[int, CHANNELS] = 71  # root 4, positions 63, contacts 4 of the 22-joint features
    latent_channels: Annotated[int, CHANNELS] = 64
    downsampling: Annotated[int, LAYERS] = 4  # frames per latent
    width: Annotated[int, CHANNELS] = 256
    num_blocks: Annotated[int, Range(0, 64)] = 4
    fine_width: Annotated[int, CHANNELS] = 128
    num_fine_blocks: Annotated[int, Range(0, 64)] = 3
    kl_weight: Annotated[float, WEIGHT] = 1e-4
    latent_noise: Annotated[float, Range(0, 100)] = 0.0  # in training, relative to a latent's spread

    def __post_init__(self):
        check_bounds(self)


@dataclass(frozen=True)
class Posterior:
    """Gaussian over latents: mean and log variance (B, N, C)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """A draw; `added` (C,): standard deviation of noise on top of the posterior's own."""
        return self.mean + noise * (self.log_variance.exp() + added**2).sqrt()

    def kl(self) -> Tensor:
        """KL to the unit Gaussian per element (B, N, C). Kingma & Welling 2014, App. B."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class ConvBlock(nn.Module):
    """Pre-norm residual block of two temporal convolutions. Tokens (B, N, C)."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv1 = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm(x) * mask  # zeros beyond the end, as at the start, whatever the padding holds
        y = F.gelu(self.conv1(y.mT)) * mask.mT
        return x + self.conv2(y).mT  # (B, N, C)


class MotionAutoencoder(nn.Module):
    """encode: columns (B, T, D) -> Posterior (B, T/4, C); decode: latents (B, N, C) -> columns (B, 4N, D), normalised."""

    LATENTS = ("patch_in.", "encoder.", "to_posterior.", "latent_")  # what latents depend on

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        c = config
        self.patch_in = nn.Linear(c.downsampling * c.num_columns, c.width)
        self.encoder = nn.ModuleList(ConvBlock(c.width, 3) for _ in range(c.num_blocks))
        self.to_posterior = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, 2 * c.latent_channels))
        self.from_latent = nn.Linear(c.latent_channels, c.width)
        self.decoder = nn.ModuleList(ConvBlock(c.width, 3) for _ in range(c.num_blocks))
        self.unpatch = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, c.downsampling * c.fine_width))
        self.fine = nn.ModuleList(ConvBlock(c.fine_width, 5) for _ in range(c.num_fine_blocks))
        self.columns_out = nn.Sequential(nn.LayerNorm(c.fine_width), nn.Linear(c.fine_width, c.num_columns))
        # Latents are divided by their spread over the training set, so that diffusion sees unit variance.
        self.register_buffer("latent_mean", torch.zeros(c.latent_channels))
        self.register_buffer("latent_std", torch.ones(c.latent_channels))

    def freeze_encoder(self) -> None:
        """Trains no more what makes latents."""
        for name, parameter in self.named_parameters():
            if name.startswith(self.LATENTS):
                parameter.requires_grad_(False)

    def encode(self, x: Tensor, mask: Tensor) -> Posterior:
        """x (B, T, D) with T a multiple of 4; mask (B, T) True at real frames."""
        r = self.config.downsampling
        kept = mask[:, ::r, None].to(x.dtype)  # (B, N, 1)
        h = self.patch_in(rearrange(x * mask[..., None], "b (n r) d -> b n (r d)", r=r))  # (B, N, width)
        for block in self.encoder:
            h = block(h, kept)
        mean, log_variance = self.to_posterior(h).chunk(2, dim=-1)  # (B, N, C)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def decode(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Columns (B, 4N, D) from latents (B, N, C); mask (B, 4N) True at the frames that will be kept."""
        r = self.config.downsampling
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
        return (z - self.latent_mean) / self.latent_std

    def denormalise(self, z: Tensor) -> Tensor:
        return z * self.latent_std + self.latent_mean


def autoencoder_columns(features: Features) -> list[int]:
    """Indices of the feature columns that the autoencoder keeps: root, joint positions, contacts."""
    names = ("root_yaw", "root_velocity", "root_height", "ric", "contact")
    return [i for name in names for i in range(features.blocks[name].start, features.blocks[name].stop)]


def reconstruction_terms(
    predicted: Tensor, target: Tensor, mask: Tensor, mean: Tensor, std: Tensor, features: Features
) -> dict[str, Tensor]:
    """Loss terms between normalised columns (B, T, D), most of them on joints in metres; means over real frames.

    `joints` and `path` compare body-frame and world positions, `velocity` and `acceleration` their differences over time
    (m/s, m/s^2, scaled), `plant` the speed of feet that the recording has on the ground. `subtle` is `velocity` relative
    to how fast a joint moves in its clip: the small wave of a raised hand counts as much as the swing of a runner's arm.
    """
    body = features.read_columns
    frames = mask[..., None].to(predicted.dtype)  # (B, T, 1)

    def average(x: Tensor, keep: Tensor) -> Tensor:
        return (x * keep).sum() / (keep.sum() * x[0, 0].numel()).clamp(min=1) if x.dim() == 3 else average(x.flatten(2), keep)

    a, b = (x * std + mean for x in (predicted, target))
    ja, jb = (features.joints(x[..., :body].float()) for x in (a, b))  # (B, T, J, 3)
    va, vb = ((j[:, 1:] - j[:, :-1]) * features.fps for j in (ja, jb))  # m/s
    aa, ab = ((v[:, 1:] - v[:, :-1]) * features.fps for v in (va, vb))  # m/s^2
    feet = list(features.body.feet)
    planted = b[:, :-1, body:] > 0.5  # (B, T-1, 4)
    foot_speed = va[:, :, feet].norm(dim=-1) * planted  # (B, T-1, 4)
    ahead = frames[:, 1:]
    moving = ((vb.square().sum(-1) * ahead).sum(1, keepdim=True) / ahead.sum(1, keepdim=True).clamp(min=1)).sqrt()  # (B, 1, J)
    relative = (va - vb).abs() / (moving + SLOW)[..., None]
    return {
        "columns": average((predicted - target).abs()[..., :body], frames),
        "contact": average((a - b)[..., body:].abs(), frames),
        "joints": average((a - b)[..., 4:body].abs(), frames),
        "path": average((ja - jb).abs(), frames),
        "velocity": average((va - vb).abs(), ahead),
        "acceleration": average((aa - ab).abs(), frames[:, 2:]),
        "subtle": average(relative, ahead),
        "plant": average(foot_speed, ahead),
    }


SLOW = 0.1  # m/s that joints at rest are taken to move in `subtle`
TERM_WEIGHTS = {
    "columns": 0.5, "contact": 0.2, "joints": 20.0, "path": 2.0, "velocity": 2.0, "acceleration": 0.05, "subtle": 2.0,
    "plant": 2.0,
}  # fmt: skip


def spread(latents: Tensor, kept: Tensor) -> Tensor:
    """Standard deviation (C,) of the latents (B, N, C) with kept (B, N, 1) = 1, over the batches of all processes."""
    latents = latents.float()
    sums = total(torch.cat(
        [(latents * kept).flatten(0, 1).sum(0), (latents.square() * kept).flatten(0, 1).sum(0), kept.sum()[None]]))
    channels = latents.shape[-1]
    mean, square = sums[:channels] / sums[-1], sums[channels:-1] / sums[-1]
    return (square - mean.square()).clamp(min=1e-8).sqrt()


def autoencoder_loss(
    network: MotionAutoencoder, x: Tensor, mask: Tensor, noise: Tensor, mean: Tensor, std: Tensor, features: Features,
) -> dict[str, Tensor]:  # fmt: skip
    """Weighted terms of the reconstruction and the KL of a batch of normalised columns (B, T, D)."""
    posterior = network.encode(x, mask)
    kept = mask[:, :: network.config.downsampling, None].float()
    added = network.config.latent_noise
    latents = posterior.sample(noise, added * spread(posterior.mean, kept) if added else 0.0)
    reconstruction = network.decode(latents, mask).float()
    terms = reconstruction_terms(reconstruction, x, mask, mean, std, features)
    terms = {name: TERM_WEIGHTS[name] * value for name, value in terms.items()}
    terms["kl"] = network.config.kl_weight * (posterior.kl().float().mean(-1, keepdim=True) * kept).sum() / kept.sum()
    return terms


@torch.no_grad()
def reconstruction_error(
    network: MotionAutoencoder, x: Tensor, mask: Tensor, mean: Tensor, std: Tensor, features: Features
) -> dict[str, float]:
    """What decoding the mean latents of a batch loses: MPJPE and path error in mm, jerk and planted-foot speed over real."""
    device = next(network.parameters()).device
    x, mask, mean, std = (v.to(device) for v in (x, mask, mean, std))
    y = network.decode(network.encode(x, mask).mean, mask).float()
    terms = reconstruction_terms(y, x, mask, mean, std, features)
    body = features.read_columns
    joints = [features.joints((v * std + mean)[..., :body]) for v in (y, x)]  # (B, T, J, 3) each
    local = [(v * std + mean)[..., 4:body].unflatten(-1, (-1, 3)) for v in (y, x)]
    inner = (mask[:, 3:] & mask[:, :-3])[..., None]
    jerks = [(j.diff(n=3, dim=1).norm(dim=-1) * inner).sum() for j in joints]
    real_plant = reconstruction_terms(x, x, mask, mean, std, features)["plant"]
    return {
        "loss": float(sum(TERM_WEIGHTS[name] * value for name, value in terms.items())),
        "mpjpe_mm": float(1000 * (local[0] - local[1]).norm(dim=-1)[mask].mean()),
        "path_mm": float(1000 * (joints[0] - joints[1]).norm(dim=-1)[mask].mean()),
        "jerk_ratio": float(jerks[0] / jerks[1]),
        "plant_ratio": float(terms["plant"] / real_plant),
    }


@torch.no_grad()
def measure_latents(network: MotionAutoencoder, clips: Iterable[Tensor]) -> None:
    """Sets `latent_mean` and `latent_std` from normalised clips (T, D)."""
    device = network.latent_mean.device
    latents = []
    for clip in clips:
        x = clip[None, : len(clip) // 4 * 4].to(device)  # (1, T, D)
        latents.append(network.encode(x, x.new_ones(x.shape[:2], dtype=torch.bool)).mean[0])
    latents = torch.cat(latents)  # (N, C)
    network.latent_mean.copy_(latents.mean(0))
    network.latent_std.copy_(latents.std(0).clamp(min=1e-3))


def save_autoencoder(folder: Path, config: AutoencoderConfig, network: MotionAutoencoder, statistics: Statistics) -> None:
    """Writes config.json, model.safetensors (fp32, latent spread included) and stats.npz into `folder`."""
    from safetensors.torch import save

    settings = encode_json({"system": SYSTEM, **asdict(config)}, "config.json", indent=2)
    write_atomically(folder / "config.json", settings)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_atomically(folder / WEIGHTS_FILE, save(weights))
    statistics.save(folder / "stats.npz")


def load_autoencoder(folder: Path) -> tuple[MotionAutoencoder, Statistics]:
    """The autoencoder of its own checkpoint folder, or of a model that diffuses in its latents; in eval mode, float32.

    The folder of a training run stands for its best checkpoint, else for its newest. Raises FileNotFoundError or CheckpointError
    naming the file.
    """
    folder = checkpoint_in(folder)
    config_file, weights_file = folder / "config.json", folder / WEIGHTS_FILE
    if not config_file.is_file():
        raise FileNotFoundError(f"{config_file}: no autoencoder checkpoint; train one with python -m train.train_autoencoder")
    with checkpoint_errors():
        settings = read_json(config_file, dict[str, Any])
        own = settings.pop("system", None) == SYSTEM
        if not own and not settings.get("autoencoder"):
            raise CheckpointError(f"{config_file}: not the checkpoint of a motion autoencoder")
        settings = settings if own else settings["autoencoder"]
        config = convert_settings(settings, AutoencoderConfig, str(config_file))
        weights = read_safetensors(weights_file)
        if not own:
            weights = {k.removeprefix("autoencoder."): v for k, v in weights.items() if k.startswith("autoencoder.")}
        with made_for(weights, str(weights_file)):
            network = MotionAutoencoder(config)
        load_checked(network, weights, str(weights_file))
        statistics = Statistics.load(folder / "stats.npz")
    return network.eval(), statistics

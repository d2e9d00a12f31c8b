"""PGR2M's motion tokenizer: the pose of every fourth frame in words of a fixed vocabulary, and codebooks for what these leave.

A token is an id for each group of pose codes, which say where a limb is, and then an id for each codebook. PGR2M
(arXiv 2512.22464); without codebooks CoMo's decoder (arXiv 2403.13900).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Features, Statistics
from data_loaders.pose_codes import codes_from_indices, every_token, indices_from_codes, pose_codes
from model.capabilities import OWN, Decoding, Request
from model.model import Draws, Learnt, Model, require_only
from model.pgr2m_config import NUM_CODES, NUM_GROUPS, TOKEN_FRAMES, PGTokenizerConfig
from model.quantizers import NONE
from model.soft_quantizer import SoftCodebooks, SoftQuantised
from model.vqvae import VQVAE
from model.vqvae_network import Decoder, Encoder, whole_tokens
from protos.randomness import rand

AS_THEY_ARE = "poses are decoded as they are: nothing is drawn"
DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss, "l1_smooth": F.smooth_l1_loss}


class PoseTokenizer(nn.Module):
    """Vectors of pose codes, encoder and codebooks of what they leave, decoder."""

    def __init__(self, config: PGTokenizerConfig, num_features: int):
        super().__init__()
        self.pose_codebook = nn.Parameter(torch.empty(NUM_CODES, config.code_dim).uniform_(-1 / NUM_CODES, 1 / config.code_dim))
        if config.num_quantizers:
            self.encoder = Encoder(config, num_features)
            self.codebooks = SoftCodebooks(config.num_quantizers, config.num_codes, config.code_dim, config.value_beta)
        self.decoder = Decoder(config, num_features)

    def pose(self, codes: Tensor) -> Tensor:
        """Sums (B, N, C) of the vectors of pose codes (B, N, 392), of which those that hold are 1, the others 0."""
        return codes.to(self.pose_codebook) @ self.pose_codebook


class PGTokenizer(VQVAE):
    """Ids are (N, 70 + Q): of each group the pose code that holds, then of each codebook. Those of the groups alone can be
    decoded too.
    """

    config: PGTokenizerConfig

    def __init__(self, config: PGTokenizerConfig, statistics: Statistics | None = None,
                 parts: Mapping[str, Model] | None = None):  # fmt: skip
        width = config.features.width * config.features.persons
        Model.__init__(self, config, statistics, {"tokenizer": PoseTokenizer(config, width)})

    @property
    def network(self) -> PoseTokenizer:
        return self.networks["tokenizer"]

    def pose_codes(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Codes (B, N, 392), 0 or 1, of normalised motion (B, T, D); draws: of training, where poses may be jittered and
        turned.
        """
        joints = self.features.joints(self.denormalise(x.float()))  # (B, T, J, 3)
        joints = every_token(joints.flatten(2)).unflatten(-1, joints.shape[2:])  # (B, N, J, 3)
        uniform = None
        if draws is not None:
            chances = rand(draws.samples, (len(x), 2), device=x.device)
            joints = turned(joints, 2 * torch.pi * chances[:, 0] * (chances[:, 1] < self.config.turn))
            if self.config.jitter:
                uniform = rand(draws.samples, (*joints.shape[:2], NUM_GROUPS), device=x.device)
        return pose_codes(joints, uniform).float()

    def residual(self, x: Tensor, pose: Tensor, keep: Tensor | None) -> Tensor:
        """What vectors (B, N, C) of pose codes leave of the latents of normalised motion (B, T, D)."""
        return self.network.encoder(x, keep) - (pose.detach() if self.config.hold_pose else pose)

    def quantise(self, x: Tensor, keep: Tensor | None, draws: Draws | None = None) -> SoftQuantised:
        """Residuals (B, N, C) as codes; draws: of training, where codebooks can be left out."""
        with torch.autocast(x.device.type, enabled=False):
            if draws is None:
                return self.network.codebooks(x.float(), keep)
            config, step = self.config, draws.step
            chance, place = torch.rand(2, generator=step, device=step.device).tolist()
            fewest = 1 + config.quantizer_cutoff
            used = fewest + int(place * (config.num_quantizers + 1 - fewest))
            used = used if chance < config.quantizer_drop else config.num_quantizers
            noise = partial(torch.randn, generator=step, device=step.device)
            return self.network.codebooks(x.float(), keep, used, noise)

    def pose_ids(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """As `ids_of`, of the groups alone (B, N, 70)."""
        ids = indices_from_codes(self.pose_codes(x))
        return ids if keep is None else ids.masked_fill(~keep[:, ::TOKEN_FRAMES, None], NONE)

    def ids_of(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        ids = self.pose_ids(x, keep)
        if not self.config.num_quantizers:
            return ids
        rest = self.residual(x, self.network.pose(codes_of_ids(ids)), keep)
        return torch.cat([ids, self.quantise(rest, None if keep is None else keep[:, ::TOKEN_FRAMES]).ids], dim=-1)

    def coarser(self, ids: Tensor) -> dict[str, Tensor]:
        return {"pose_codes": ids[..., :NUM_GROUPS]}

    def vectors(self, ids: Tensor) -> Tensor:
        pose = self.network.pose(codes_of_ids(ids[..., :NUM_GROUPS]))
        if ids.shape[-1] == NUM_GROUPS:
            return pose
        return pose + self.config.residual_ratio * self.network.codebooks.vectors(ids[..., NUM_GROUPS:])

    def realise(self, poses: Sequence[Tensor], requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(4 N, D)] in their units of poses [(N, 70)] alone: a tokenizer reads no text and draws nothing."""
        require_only(decoding, (), AS_THEY_ARE)
        return self.decode(poses)

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Weighted terms of reconstruction, of the codebooks and of their entropies; the latter two are 0 in a step that decodes
        from pose codes alone.
        """
        config, network = self.config, self.network
        x, keep = whole_tokens(*self.masked(batch), TOKEN_FRAMES)
        of_tokens = keep[:, ::TOKEN_FRAMES]
        vectors, terms, figures = network.pose(self.pose_codes(x, draws)), {}, {}
        if config.num_quantizers:
            coded = self.quantise(self.residual(x, vectors, keep), of_tokens, draws)
            told = float(torch.rand(1, generator=draws.step, device=draws.step.device)) >= config.residual_drop
            vectors = vectors + told * config.residual_ratio * coded.vectors
            terms = {"commitment": told * config.lambda_commit * coded.commitment,
                     "entropy": told * config.lambda_entropy * coded.entropy}  # fmt: skip
            figures = {"perplexity": coded.perplexity}
        made = network.decoder(vectors, of_tokens).float()
        return Learnt(self.reconstruction_terms(made, x, keep) | terms, {}, figures)

    def reconstruction_terms(self, made: Tensor, x: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """Weighted distances of normalised motions (B, T, D), of all columns and of some again; frames without keep (B, T) count
        as equal, as published.
        """
        config = self.config
        again = [weighted_again(each, self.features, config.weighted_again) for each in (made, x)]
        return {
            "reconstruction": (frame_distances(made, x, config.distance) * keep).mean(),
            "positions": config.lambda_positions
            * (frame_distances(*again, config.distance) * keep[:, : again[0].shape[1]]).mean(),
        }


def frame_distances(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Distances (B, T) of motions (B, T, C) by a name in `DISTANCES`, means over columns."""
    return DISTANCES[distance](a, b, reduction="none").mean(-1)


def weighted_again(motion: Tensor, features: Features, what: str) -> Tensor:
    """Positions or velocities (B, T, C) of motion (B, T, D), or its differences (B, T - 1, D) between frames."""
    if what == "differences":
        return motion.diff(dim=1)
    return motion[..., features.blocks["ric" if what == "positions" else "local_velocity"]]


def turned(joints: Tensor, angle: Tensor) -> Tensor:
    """Joints (B, N, J, 3), Y up, each sample turned by an angle (B,) about Y."""
    x, y, z = joints.unbind(-1)
    cos, sin = (each[:, None, None].to(joints) for each in (angle.cos(), angle.sin()))
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=-1)


def codes_of_ids(ids: Tensor) -> Tensor:
    """Codes (..., 392) in float32, 0 or 1, of ids (..., 70); a token of -1 has none."""
    return codes_from_indices(ids.clamp(min=0)).float() * (ids[..., :1] != NONE)

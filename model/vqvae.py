"""A motion tokenizer as one object: VQ-VAE with one codebook (LaMP, T2M-GPT) or with residual ones (MoMask), its training
objective, motions to ids and back.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from model.model import Draws, Learnt, Model
from model.quantizers import Quantised, gumbel_of
from model.vqvae_config import VQVAEConfig
from model.vqvae_network import Tokenizer, smooth_l1, whole_tokens
from protos.randomness import rand

BATCH = 32  # motions that are encoded or decoded at once


class VQVAE(Model):
    """Its network `tokenizer` works on normalised features. Motions are cut to whole tokens."""

    def __init__(self, config: VQVAEConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None):
        width = config.features.width * config.features.persons
        super().__init__(config, statistics, {"tokenizer": Tokenizer(config, width)})

    @property
    def network(self) -> Tokenizer:
        """Encoder, codebooks and decoder."""
        return self.networks["tokenizer"]

    def quantise(self, x: Tensor, keep: Tensor | None, draws: Draws | None = None) -> Quantised:
        """Latents (B, N, C) as codes; draws: of training, where codes may be drawn and codebooks left out."""
        with torch.autocast(x.device.type, enabled=False):
            if draws is None:
                return self.network.codebooks(x.float(), keep)
            config, step = self.config, draws.step
            chance, place = torch.rand(2, generator=step, device=step.device).tolist()
            used = 1 + int(place * config.num_quantizers) if chance < config.quantizer_drop else config.num_quantizers
            shape = (*x.shape[:2], config.num_codes)
            drawn = (lambda _: gumbel_of(rand(draws.samples, shape, device=x.device))) if config.code_temperature else None
            noise = partial(torch.randn, generator=step, device=step.device)
            return self.network.codebooks(x.float(), keep, used, drawn, config.code_temperature, noise, draws.first)

    def ids_of(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids (B, N, Q) of normalised motion (B, T, D) of whole tokens, -1 beyond the ends that keep (B, T) tells."""
        of_tokens = None if keep is None else keep[:, :: self.config.downsampling]
        return self.quantise(self.network.encoder(x, keep), of_tokens).ids

    def vectors(self, ids: Tensor) -> Tensor:
        """What the decoder reads (B, N, C) of ids (B, N, Q or of fewer codebooks); -1 adds nothing."""
        return self.network.codebooks.vectors(ids)

    def coarser(self, ids: Tensor) -> dict[str, Tensor]:
        """Parts by name of ids (B, N, Q) that are worth being judged alone: none."""
        return {}

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Weighted terms of reconstruction and commitment, and the sums that move the codebooks. Zhang et al. 2023, Eq. 3-5."""
        config = self.config
        x, keep = whole_tokens(*self.masked(batch), config.downsampling)
        of_tokens = keep[:, :: config.downsampling]
        coded = self.quantise(self.network.encoder(x, keep), of_tokens, draws)
        made = self.network.decoder(coded.vectors, of_tokens).float()
        return Learnt(self.reconstruction_terms(made, x, keep) | {"commitment": config.lambda_commit * coded.commitment},
                      coded.sums, {"perplexity": coded.perplexity})  # fmt: skip

    def reconstruction_terms(self, made: Tensor, x: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """Weighted distances of normalised motions (B, T, D) over frames with keep (B, T): of all columns, of positions again."""
        positions = self.features.blocks["ric" if "ric" in self.features.blocks else "positions"]
        return {
            "reconstruction": smooth_l1(made, x, keep),
            "positions": self.config.lambda_positions * smooth_l1(made[..., positions], x[..., positions], keep),
        }

    def update(self, sums: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Moves the codebooks by the sums of a step."""
        self.network.codebooks.update(dict(sums), partial(torch.randn, generator=generator, device=generator.device))

    @torch.no_grad()
    def encode(self, motions: Sequence[np.ndarray]) -> list[Tensor]:
        """Ids [(N, Q)] on the CPU of features [(T, D)] in their units, N = T // frames of a token. ValueError for one without a
        token.
        """
        frames, made = self.config.downsampling, []
        for i, each in enumerate(motions):
            if len(each) < frames:
                raise ValueError(f"motion {i + 1} has {len(each)} frames, a token is of {frames}")
        for start in range(0, len(motions), BATCH):
            rows = [torch.from_numpy(np.array(each, np.float32)) for each in motions[start : start + BATCH]]
            lengths = torch.tensor([len(row) for row in rows])
            motion = pad_sequence(rows, batch_first=True)
            mask = torch.arange(motion.shape[1]) < lengths[:, None]
            x, keep = whole_tokens(self.normalise(motion.to(self.device)), mask.to(self.device), frames)
            ids = self.eval().ids_of(x, keep).cpu()
            made += [row[: length // frames] for row, length in zip(ids, lengths.tolist(), strict=True)]
        return made

    @torch.no_grad()
    def decode(self, ids: Sequence[Tensor]) -> list[Tensor]:
        """Features [(frames * N, D)] in their units of ids [(N, Q) or of fewer codebooks]; -1 counts as no code."""
        made = []
        for start in range(0, len(ids), BATCH):
            rows = ids[start : start + BATCH]
            lengths = torch.tensor([len(row) for row in rows], device=self.device)
            padded = pad_sequence([row.to(self.device) for row in rows], batch_first=True, padding_value=-1)  # (B, N, Q)
            keep = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
            features = self.denormalise(self.eval().network.decoder(self.vectors(padded), keep)).cpu()
            made += [row[: len(one) * self.config.downsampling] for row, one in zip(features, rows, strict=True)]
        return made

    @torch.no_grad()
    def reconstruct(self, motions: Sequence[np.ndarray], padded_to: int | None = None) -> list[Tensor]:
        """Features [(T, D)] in their units as their tokens tell them, T of whole tokens.

        padded_to: frames to which motions are padded by their mean first, as published evaluation has it, where padding
        colours the last tokens.
        """
        if padded_to is None:
            return self.decode(self.encode(motions))
        made, frames = [], self.config.downsampling
        for each in motions:
            x = self.normalise(torch.from_numpy(np.array(each, np.float32)).to(self.device))
            padded = F.pad(x, (0, 0, 0, max(padded_to - len(x), 0)))[None]
            features = self.denormalise(self.network.decoder(self.vectors(self.eval().ids_of(padded)))[0])
            made.append(features[: len(x) // frames * frames].cpu())
        return made

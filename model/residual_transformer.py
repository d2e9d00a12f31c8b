"""The residual transformer over motion tokens (Guo et al. 2024, MoMask): the finer codebooks, one after the other."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from diffusion.token_decoding import decode_residual, layers_to_train
from model.capabilities import OWN, Decoding, Request
from model.model import Draws, Learnt, Model
from model.text_encoders import EncodesTexts
from model.token_networks import ResidualTransformer
from model.token_transformer_config import ResidualConfig
from model.token_transformers import IGNORED, RESIDUAL, OverTokens, TokenTransformer, cross_entropy, noise_of, text_of
from model.vqvae import VQVAE
from protos.randomness import rand


class ResidualTokenTransformer(OverTokens):
    """The residual transformer, on the part `base`, whose ids it adds to: together a model of residual tokens."""

    what = "residual transformer"

    def __init__(self, config: ResidualConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: EncodesTexts | None = None):  # fmt: skip
        """text_encoder replaces the frozen one that the configuration names."""
        if "base" not in (parts or {}):
            raise ValueError("a residual transformer adds to what another makes: it needs the part base")
        super().__init__(config, statistics, {"transformer": ResidualTransformer(config)}, parts=parts)
        self.text_encoder = text_encoder

    @property
    def base(self) -> TokenTransformer:
        """Makes the ids of the first codebook."""
        return self.parts["base"]

    @property
    def tokenizer(self) -> VQVAE:
        return self.base.tokenizer

    @property
    def transformer(self) -> ResidualTransformer:
        return self.networks["transformer"]

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Cross entropy of the tokens of one codebook for each sample. Guo et al. 2024, Eq. 5."""
        ids, lengths = self.ids_of(batch)
        chances = rand(draws.samples, (len(ids), 2), device=ids.device)
        layer = layers_to_train(chances[:, 0], self.config.num_quantizers)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        condition = self.condition(batch.text_features["text"].to(ids.device))
        logits = self.transformer(ids, layer, condition, mask, chances[:, 1] < self.config.cond_mask_prob).float()
        wanted = ids.take_along_dim(layer[:, None, None], dim=2)[..., 0]
        return cross_entropy(logits, wanted.masked_fill(~mask, IGNORED))

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units. Raises as `TokenTransformer.generate`.

        The guidance that is asked for is that of the base; this one's own stands.
        """
        base = self.base.make_ids(requests, decoding)
        ids = pad_sequence(base, batch_first=True, padding_value=-1)[..., 0].to(self.device)  # (B, N)
        made = self._added(ids, requests, decoding)
        rows = [row[: len(one)] for row, one in zip(made, base, strict=True)]
        return [row[: request.frames] for row, request in zip(self.tokenizer.decode(rows), requests, strict=True)]

    def check_decoding(self, decoding: Decoding) -> None:
        self.base.check_decoding(decoding)

    def continued(self, request: Request, before: Tensor | None, decoding: Decoding) -> Tensor:
        made = self.base.continued(request, before, decoding)
        known = made[:0] if before is None else before[:, :1].to(made)
        return self._added(torch.cat([known, made])[None, :, 0], [request], decoding)[0, len(known) :]

    def _added(self, ids: Tensor, requests: Sequence[Request], decoding: Decoding) -> Tensor:
        """Ids (B, N, Q) of those of the first codebook (B, N), -1 beyond the ends."""
        mask = ids >= 0
        condition = self.conditions([text_of(request) for request in requests])
        call = self.guided(self.eval().transformer, self.config.guidance_scale)

        def logits(layer: int, told: Tensor) -> Tensor:
            return call(told, torch.full((len(told),), layer, device=told.device), condition, mask)

        noise = noise_of(requests, self.device, RESIDUAL)
        return decode_residual(logits, ids, mask, self.config.num_quantizers, self.sampling(decoding), noise)

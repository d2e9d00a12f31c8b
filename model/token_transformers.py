"""Text to motion over tokens: a masked transformer fills in the codes of a motion's first codebook, a residual one adds those of
the others. Guo et al. 2024 (MoMask); with the condition of LaMP's Q-Former, Li et al. 2025 (LaMP).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from data_loaders.corpus import Batch
from data_loaders.edit_masks import EditError
from data_loaders.features import Statistics
from diffusion.samplers import sample_noise
from diffusion.token_decoding import (
    Gumbel,
    TokenSampling,
    decode_masked,
    decode_residual,
    layers_to_train,
    masks_to_train_on,
    spoilt,
)
from diffusion.windows import decoded_pieces, equal_parts, in_tokens
from model.capabilities import OWN, Decoding, Passage, Request
from model.lamp import LaMP
from model.lsremgm import check_lengths, scale_of
from model.model import Draws, Learnt, Model, ReadsTexts, require_only
from model.qformer import QFormer, seen
from model.quantizers import gumbel_of
from model.text_encoders import EncodesTexts, TextFeatures
from model.text_towers import WordPieces, load_text_encoder
from model.token_networks import MaskedTransformer, ResidualTransformer
from model.token_transformer_config import ResidualConfig, TokenTransformerConfig
from model.vqvae import VQVAE
from protos.randomness import derive_seed, rand, randint

IGNORED = -100
REPLACED, HIDDEN = 0.1, 0.88  # of masked tokens in training: by any other, and of the rest behind the mask
MOST_TOLD = 50_000  # texts whose conditions are kept
TOLD_BEFORE = 2.0  # seconds of a long motion from which the next window of it goes on
RESIDUAL = 1  # what tells the noise of the further codebooks from that of the first


class OverTokens(ReadsTexts, ABC):
    """What both transformers share: the tokenizer's ids, the condition of texts, guidance. `what` says what it is."""

    what: str
    _told: dict[str, Tensor] | None  # conditions of texts, of the weights as they are
    frozen_condition = False  # whether no trained weight is in them

    def train(self, mode: bool = True) -> Self:
        """As of every model; what was made of texts before by trained weights is forgotten."""
        if mode and not self.frozen_condition:
            self._told = {}
        return super().train(mode)

    def copied(self) -> Self:
        """As of every model; the copy, whose weights are moved by others, keeps nothing of what these make of texts."""
        other = super().copied()
        other._told = self.__dict__.setdefault("_told", {}) if self.frozen_condition else None
        return other

    def conditions(self, texts: Sequence[str]) -> Tensor:
        """(B, D) of texts, each made once as long as the model is not trained."""
        told = self.__dict__.setdefault("_told", {})
        if told is None:
            return self.condition(self.encode_text(texts))
        if len(told) > MOST_TOLD:
            told.clear()
        if unknown := [text for text in dict.fromkeys(texts) if text not in told]:
            told |= dict(zip(unknown, self.condition(self.encode_text(unknown)).cpu(), strict=True))
        return torch.stack([told[text] for text in texts]).to(self.device)

    @property
    @abstractmethod
    def tokenizer(self) -> VQVAE:
        """Tells motion by codes."""

    def reader(self) -> EncodesTexts:
        return load_text_encoder(self.config.text_encoder)

    def condition(self, text: TextFeatures) -> Tensor:
        """What the transformer is told (B, D) of texts."""
        return text.pooled

    @torch.no_grad()
    def ids_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids (B, N, Q) of a batch's motions, -1 beyond their ends, and how many tokens each has (B,)."""
        frames = self.tokenizer.config.downsampling
        x, mask = self.tokenizer.masked(batch)
        lengths = mask.sum(1) // frames
        size = int(lengths.max())
        keep = torch.arange(size * frames, device=x.device) < frames * lengths[:, None]
        return self.told(x[:, : size * frames], keep), lengths

    def told(self, x: Tensor, keep: Tensor) -> Tensor:
        """Ids (B, N, Q) that it works on, of normalised motion (B, T, D) of whole tokens, -1 beyond the ends (B, T)."""
        return self.tokenizer.ids_of(x, keep)

    def guided(self, logits: Callable[..., Tensor], scale: float) -> Callable[..., Tensor]:
        """logits(ids, condition, mask) guided by the condition, both passes in one batch; 1 asks the conditional one alone."""
        if scale == 1:
            return lambda *given: logits(*given)

        def both(*given: Tensor) -> Tensor:
            drop = torch.arange(2 * len(given[0]), device=given[0].device) < len(given[0])
            without, told = logits(*(each.repeat(2, *[1] * (each.dim() - 1)) for each in given), drop=drop).chunk(2)
            return without + scale * (told - without)

        return both

    @torch.no_grad()
    def compose(self, passages: Sequence[Passage], seed: int = 0, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features (n, D) in their units, on the CPU, of a long motion: windows of tokens, each of which sees the last ones of
        the window before, decoded as far as later ones do not matter.
        """
        self.eval().check_decoding(decoding)
        config, frames = self.tokenizer.config, [passage.frames for passage in passages]

        def decode(ids: Tensor) -> Tensor:
            return self.tokenizer.decode([ids])[0]

        windows = self._windows(passages, in_tokens(frames, config.downsampling), seed, decoding)
        yield from decoded_pieces(windows, decode, config.downsampling, self.tokenizer.network.decoder.reach, sum(frames))

    def _windows(self, passages: Sequence[Passage], lengths: Sequence[int], seed: int, decoding: Decoding) -> Iterator[Tensor]:
        """Ids (N, Q) of passages of so many tokens, window by window."""
        step, number, before = self.tokenizer.config.downsampling, 0, None
        longest = self.config.max_frames // step
        told = min(round(TOLD_BEFORE * self.features.fps / step), longest // 2)
        alone = len(lengths) == 1 and lengths[0] <= longest
        for passage, length in zip(passages, lengths, strict=True):
            for part in equal_parts(length, longest if alone else longest - told):
                own = derive_seed(seed, "window", number) if number else seed
                made = self.continued(Request(passage.text, part * step, own), before, decoding).cpu()
                yield made
                before = (made if before is None else torch.cat([before, made]))[-told:]
                number += 1

    @abstractmethod
    def continued(self, request: Request, before: Tensor | None, decoding: Decoding) -> Tensor:
        """Ids (N, Q) of what is asked for, in whole tokens, after those before it (M, Q), where there are such."""

    @abstractmethod
    def check_decoding(self, decoding: Decoding) -> None:
        """ValueError for a setting that it does not take."""

    def sampling(self, decoding: Decoding) -> TokenSampling:
        """How tokens are drawn: as is asked for, else as the configuration says."""
        config = self.config
        return TokenSampling(*(getattr(config, name) if getattr(decoding, name) is None else getattr(decoding, name)
                               for name in ("temperature", "top_k")))  # fmt: skip


class TokenTransformer(OverTokens):
    """The masked transformer, on the part `tokenizer`; with the part `lamp` its texts are read by that."""

    what = "masked transformer"

    def __init__(self, config: TokenTransformerConfig, statistics: Statistics | None = None,
                 parts: Mapping[str, Model] | None = None, text_encoder: EncodesTexts | None = None):  # fmt: skip
        """text_encoder replaces the frozen one that the configuration names, or LaMP's reader of word pieces."""
        networks: dict[str, nn.Module] = {"transformer": MaskedTransformer(config)}
        parts = dict(parts or {})
        if not {"tokenizer", "lamp"} & parts.keys():
            raise ValueError("a transformer over tokens needs the part tokenizer, or LaMP, which has one")
        self.frozen_condition = "lamp" in parts and config.lamp_condition == "frozen"
        if "lamp" in parts and not self.frozen_condition:
            lamp = parts["lamp"].config
            networks["text_reader"] = nn.Linear(lamp.latent_dim, lamp.memory_dim)
        super().__init__(config, statistics, networks, parts=parts)
        self.text_encoder = text_encoder

    @property
    def tokenizer(self) -> VQVAE:
        return self.parts["tokenizer"] if "tokenizer" in self.parts else self.parts["lamp"].tokenizer

    @property
    def transformer(self) -> MaskedTransformer:
        return self.networks["transformer"]

    def reader(self) -> EncodesTexts:
        if "lamp" not in self.parts:
            return super().reader()
        lamp: LaMP = self.parts["lamp"]
        return WordPieces(lamp.config.text_tower, lamp.config.num_queries, lamp.config.plain_texts)

    def condition(self, text: TextFeatures) -> Tensor:
        """(B, D). Of LaMP the mean of the queries that read a text as long as a motion can be, its padding too, as published; or
        of those that read its words."""
        if "lamp" not in self.parts:
            return super().condition(text)
        if self.frozen_condition:
            with torch.no_grad():
                return self.parts["lamp"].telling(text.ids, text.mask).mean(1)
        return read_by_queries(self.parts["lamp"].qformer, self.networks["text_reader"], text)

    def loss(self, batch: Batch, draws: Draws) -> Learnt:
        """Cross entropy of the masked tokens. Guo et al. 2024, Eq. 4."""
        ids, lengths = self.ids_of(batch)
        size, samples, device = ids.shape[1], draws.samples, ids.device
        # Drawn in this order, those of every token last: they then do not depend on how far a batch is padded
        chances = rand(samples, (len(ids), 2), device=device)  # when in decoding, and whether without the condition
        order, replaced, hidden = (rand(samples, (len(ids), size), device=device) for _ in range(3))
        other = randint(samples, self.config.num_codes, (len(ids), size), device=device)
        mask = torch.arange(size, device=device) < lengths[:, None]
        ids = torch.where(mask, ids[..., 0], self.transformer.pad_id)
        masked = masks_to_train_on(lengths, size, chances[:, 0], order)
        seen = spoilt(ids, masked, self.transformer.mask_id, replaced < REPLACED, other, hidden < HIDDEN)
        told = self.conditions(batch.texts) if self.frozen_condition else self.condition(batch.text_features["text"].to(device))
        logits = self.transformer(seen, told, mask, drop=chances[:, 1] < self.config.cond_mask_prob).float()
        return cross_entropy(logits, ids.masked_fill(~masked, IGNORED))

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units. Raises LengthError, EditError, and ValueError for what it does not take."""
        ids = self.eval().make_ids(requests, decoding)
        return [row[: request.frames] for row, request in zip(self.tokenizer.decode(ids), requests, strict=True)]

    @torch.no_grad()
    def make_ids(self, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
        """Ids [(N, 1)] of the first codebook of what is asked for, in whole tokens."""
        check_lengths([request.frames for request in requests], self.features, self.config.max_frames)
        self.check_decoding(decoding)
        for request in requests:
            require_only(request, ("motion", "keep"), "this model does not take it")
        lengths = [-(-request.frames // self.tokenizer.config.downsampling) for request in requests]
        if self.config.key_padding or len(set(lengths)) == 1:
            return self._make(requests, lengths, decoding)
        found: list[Tensor] = [None] * len(requests)  # where padding is seen, each length by itself
        for length in sorted(set(lengths)):
            places = [i for i, each in enumerate(lengths) if each == length]
            made = self._make([requests[i] for i in places], [length] * len(places), decoding)
            for place, ids in zip(places, made, strict=True):
                found[place] = ids
        return found

    def check_decoding(self, decoding: Decoding) -> None:
        require_only(decoding, ("guidance_scale", "sampling_steps", "temperature", "top_k"), "this model decodes tokens")

    def continued(self, request: Request, before: Tensor | None, decoding: Decoding) -> Tensor:
        count, known = -(-request.frames // self.tokenizer.config.downsampling), 0 if before is None else len(before)
        given = torch.zeros(1, known + count, dtype=torch.long, device=self.device)
        if known:
            given[0, :known] = before[:, 0]
        stays = torch.arange(known + count, device=self.device)[None] < known
        return self._filled([request], torch.ones_like(stays), given, stays, decoding)[0, known:, None]

    def _make(self, requests: Sequence[Request], lengths: Sequence[int], decoding: Decoding) -> list[Tensor]:
        mask = torch.arange(max(lengths), device=self.device) < torch.tensor(lengths, device=self.device)[:, None]  # (B, N)
        made = self._filled(requests, mask, *self._given(requests, mask), decoding)
        return [row[:length, None] for row, length in zip(made, lengths, strict=True)]

    def _filled(self, requests: Sequence[Request], mask: Tensor, given: Tensor, stays: Tensor, decoding: Decoding) -> Tensor:
        """Ids (B, N) of which those that stay (B, N) are the given ones; mask (B, N)."""
        config, device, transformer = self.config, self.device, self.transformer
        ids = torch.where(mask, given, transformer.pad_id)
        condition = self.conditions([text_of(request) for request in requests])
        call = self.guided(transformer, scale_of(self, decoding))
        steps = config.sampling_steps if decoding.sampling_steps is None else int(decoding.sampling_steps)
        return decode_masked(
            lambda ids: call(ids, condition, mask), ids, mask & ~stays, transformer.mask_id, steps, self.sampling(decoding),
            noise_of(requests, device),
        )  # fmt: skip

    def _given(self, requests: Sequence[Request], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (B, N) of given motions, and which of them stay (B, N): tokens all of whose frames do."""
        ids, stays = torch.zeros_like(mask, dtype=torch.long), torch.zeros_like(mask)
        frames = self.tokenizer.config.downsampling
        for row, request in enumerate(requests):
            if request.motion is None:
                continue
            keep = torch.as_tensor(request.keep)
            if keep.shape[-1] > 1 and not (keep.all(-1) == keep.any(-1)).all():
                raise EditError("this model works on tokens of the whole body: frames can be kept, body parts cannot")
            of_tokens = keep.any(-1)[: len(keep) // frames * frames].unflatten(0, (-1, frames)).all(-1)
            found = self.tokenizer.encode([request.motion.cpu().numpy()])[0][:, 0]
            count = min(len(found), len(of_tokens), int(mask[row].sum()))
            ids[row, :count], stays[row, :count] = found[:count].to(ids), of_tokens[:count].to(stays)
        return ids, stays


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


def read_by_queries(qformer: QFormer, reader: nn.Linear, text: TextFeatures) -> Tensor:
    """Means (B, C) of the queries that read texts, filled up to as many tokens as there are queries, all of which they see."""
    more = max(qformer.queries.shape[1] - text.ids.shape[1], 0)
    ids, mask = F.pad(text.ids, (0, more)), F.pad(text.mask, (0, more))
    with torch.no_grad():
        said = qformer(ids, seen(mask))
    return qformer(asked=len(ids), memory=reader(said)).mean(1)


def text_of(request: Request) -> str:
    """What is asked for. ValueError for several texts in a row."""
    if not isinstance(request.text, str):
        raise ValueError(f"{len(request.text)} texts in a row: this model makes a motion as a whole, from one")
    return request.text


def cross_entropy(logits: Tensor, wanted: Tensor) -> Learnt:
    """Of logits (B, N, K) and ids (B, N), -100 not counted; beside it how often the likeliest is right."""
    counted = wanted != IGNORED
    right = ((logits.argmax(-1) == wanted) & counted).sum() / counted.sum().clamp(min=1)
    sums = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return Learnt({"loss": sums / counted.sum().clamp(min=1)}, {}, {"accuracy": right})


def noise_of(requests: Sequence[Request], device: torch.device, *context: int) -> Gumbel:
    """Gumbel noise of each request's own seed, whatever it is decoded with."""
    normal = sample_noise([request.seed for request in requests], *context)
    return lambda step, shape: gumbel_of(torch.special.ndtr(normal(torch.empty(shape, device=device)).double())).float()

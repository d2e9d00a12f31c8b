"""LaMP: one space for texts and motions, learnt by a Q-Former over the latents of a motion tokenizer. Li et al. 2025.

Four objectives: texts and motions are told apart, and matched; what a motion shows is said word by word; a text's motion is told
by tokens. Queries and text go through the Q-Former in one pass wherever what a token sees allows it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import Statistics
from data_loaders.text_similarity import meaning_key
from model.across_processes import all_rows
from model.capabilities import VectorSpace
from model.embedder import Embedder
from model.lamp_config import LaMPConfig
from model.lamp_losses import captioning, contrast, drawn, generation, negative_weights, similarities
from model.model import Draws, Model, load_checked
from model.qformer import QFormer, mean_of, seen
from model.text_encoders import EncodesTexts, TextFeatures
from model.text_towers import WordPieces, tower_weights
from model.vqvae import VQVAE
from model.vqvae_network import Encoder
from protos.randomness import rand
from protos.reading import FileError


class Heads(nn.Module):
    """What leads into the Q-Former and out of it."""

    def __init__(self, config: LaMPConfig):
        super().__init__()
        dim, memory = config.latent_dim, config.memory_dim
        self.motion_projection = nn.Parameter(torch.empty(config.motion_dim, memory).normal_(std=memory**-0.5))
        self.text_projection = nn.Parameter(torch.empty(dim, memory).normal_(std=memory**-0.5))
        self.text_vector, self.motion_vector = nn.Linear(dim, config.embedding), nn.Linear(dim, config.embedding)
        self.match, self.motion_classes = nn.Linear(dim, 2), nn.Linear(dim, config.motion_classes, bias=False)
        self.scale = nn.Parameter(torch.tensor(config.temperature))


class LaMP(Embedder):
    """Stands on the part `tokenizer`, whose latents it reads and whose ids it tells."""

    def __init__(self, config: LaMPConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: EncodesTexts | None = None):  # fmt: skip
        """text_encoder replaces the reader of word pieces of the language model that the configuration names."""
        networks = {"qformer": QFormer(config), "heads": Heads(config)}
        parts = dict(parts or {})
        if "tokenizer" not in parts:
            raise ValueError("LaMP reads the latents of a motion tokenizer: it needs the part tokenizer")
        tokenizer = parts["tokenizer"]
        if config.own_encoder:
            networks["motion_encoder"] = Encoder(tokenizer.config, config.features.width * config.features.persons)
        frozen = [name for name in networks if name == "motion_encoder"]
        super().__init__(config, statistics, networks, frozen=frozen, parts=parts)
        self.text_encoder = text_encoder
        self.said_words: Tensor | None = None  # ids of the words that captions are told from in training, by default all
        if config.frozen_text:
            self.begin_from_tower()
            for name in self._of_tower():
                self.qformer.get_parameter(name).requires_grad_(False)

    def _of_tower(self) -> list[str]:
        """Names of the Q-Former's weights that are those of its language model."""
        parts = ("self_attention.", "norm_self.", "linear1.", "linear2.", "norm_ff.")
        return [name for name, _ in self.qformer.named_parameters()
                if name.split(".")[0] in ("words", "positions", "segment", "norm")
                or (name.startswith("layers.") and name.split(".", 2)[2].startswith(parts))]  # fmt: skip

    def begin_from_tower(self) -> None:
        """Takes the weights of the language model that the configuration names. FileError where it is absent or another one."""
        state, sha256 = tower_weights(self.config.text_tower)
        if self.config.text_weights not in ("", sha256):
            own = self.config.text_weights[:16]
            raise FileError(f"this model stands on another {self.config.text_tower} (sha256 {own}) than the one on this machine "
                            f"({sha256[:16]})")  # fmt: skip
        if missing := [name for name in self._of_tower() if name not in state]:
            raise FileError(f"{self.config.text_tower} has no {missing[0]}: fewer layers than --num_layers asks for")
        own = self.qformer.state_dict()
        load_checked(self.qformer, own | {name: state[name] for name in self._of_tower()}, self.config.text_tower)

    def installed(self) -> set[str]:
        """The language model, where it is left as it is."""
        return {f"qformer.{name}" for name in self._of_tower()} if self.config.frozen_text else set()

    @property
    def tokenizer(self) -> VQVAE:
        """Tells motion by codes."""
        return self.parts["tokenizer"]

    @property
    def qformer(self) -> QFormer:
        return self.networks["qformer"]

    @property
    def heads(self) -> Heads:
        return self.networks["heads"]

    @property
    def frames(self) -> int:
        """As many as motions are padded to."""
        return self.config.num_queries * self.tokenizer.config.downsampling

    # ------------------------------------------------------------------------------------------------------------------ motion

    @torch.no_grad()
    def latents(self, motion: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Of normalised motion (B, T, D), zero beyond each end, mask (B, T): latents (B, Q, M), which of them are real (B, Q),
        None where all are seen as published, and the ids (B, Q) of the first codebook, -1 where they do not count. Q is the
        number of queries, with `mask_queries` that of the batch's tokens.
        """
        frames = self.tokenizer.config.downsampling
        size = -(-mask.shape[1] // frames) * frames if self.config.mask_queries else self.frames
        motion, mask = (F.pad(each, (0, 0, 0, size - mask.shape[1])[-2 * each.dim() + 2 :]) for each in (motion, mask))
        lengths = mask.sum(1) // frames * frames
        keep = torch.arange(size, device=mask.device) < lengths[:, None] if self.config.mask_motion else None
        of_tokens = None if keep is None else keep[:, ::frames]
        own = self.tokenizer.network.encoder(motion, keep)
        ids = self.tokenizer.quantise(own, of_tokens).ids[..., 0]
        read = self.networks["motion_encoder"](motion, keep) if self.config.own_encoder else own
        return read, of_tokens, ids

    def memory(self, latents: Tensor) -> Tensor:
        """What queries read (B, Q, E) of a motion's latents."""
        return latents @ self.heads.motion_projection

    def asked(self, keep: Tensor | None) -> Tensor | None:
        """Those of the queries (B, Q) that count, of which of a motion's latents are real (B, Q); None for all."""
        return keep if self.config.mask_queries else None

    def read_motion(self, latents: Tensor, keep: Tensor | None, qformer: QFormer | None = None) -> Tensor:
        """Hidden states (B, Q, C) of the queries that read a motion; qformer: another one than its own."""
        asked = self.asked(keep)
        visible = None if asked is None else asked[:, None].expand(-1, asked.shape[1], -1)
        given = {"memory": self.memory(latents), "memory_keep": keep, "count": latents.shape[1]}
        return (qformer or self.qformer)(None, visible, len(latents), **given)

    def read_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, L, C) of a text's tokens."""
        return self.qformer(ids, seen(mask))

    # -------------------------------------------------------------------------------------------------------------- objectives

    def saying(self, ids: Tensor, mask: Tensor, latents: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden states of the queries that read a motion (B, Q, C), and of a text (B, L, C) that is said of them word by word;
        its first word is the one that begins.
        """
        visible = seen(mask, self._asked_of(latents, keep), causal=True)
        queries = latents.shape[1]
        hidden = self.qformer(self.begun(ids), visible, len(ids), self.memory(latents), keep, queries)
        return hidden[:, :queries], hidden[:, queries:]

    def _asked_of(self, latents: Tensor, keep: Tensor | None) -> Tensor:
        asked = self.asked(keep)
        return torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device) if asked is None else asked

    def begun(self, ids: Tensor) -> Tensor:
        """Ids (B, L) whose first is the word that begins what is said."""
        return torch.cat([torch.full_like(ids[:, :1], self.qformer.begin_id), ids[:, 1:]], dim=1)

    def matching(self, ids: Tensor, mask: Tensor, latents: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (B, 2) of belonging together, yes being the second; and the hidden states (B, Q + L, C)."""
        visible = seen(mask, self._asked_of(latents, keep), by_queries=True)
        hidden = self.qformer(ids, visible, len(ids), self.memory(latents), keep, latents.shape[1])
        return mean_of(self.heads.match(hidden[:, : latents.shape[1]]), self.asked(keep)), hidden

    def telling(self, ids: Tensor, mask: Tensor, asked: Tensor | None = None) -> Tensor:
        """Hidden states (B, Q, C) of the queries, by default all, that read a text instead of a motion."""
        words = self.qformer.embedding_layer(self.begun(ids)) @ self.heads.text_projection
        visible = None if asked is None else asked[:, None].expand(-1, asked.shape[1], -1)
        return self.qformer(None, visible, len(ids), words, mask, None if asked is None else asked.shape[1])

    def unit_vectors(self, asked: Tensor, said: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unit vectors of queries (B, Q, E) and of texts (B, E) of their hidden states; those of queries without keep (B, Q), or
        left out, are the first one's, which changes no largest likeness.
        """
        motion, text = self.heads.motion_vector(asked), self.heads.text_vector(said[:, 0])
        if keep is not None:
            first, missing = motion[:, :1], self.config.num_queries - motion.shape[1]
            motion = torch.cat([torch.where(keep[..., None], motion, first), first.expand(-1, missing, -1)], dim=1)
        return F.normalize(motion.float(), dim=-1), F.normalize(text.float(), dim=-1)

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms of a training step; texts and motions of all processes are told apart together."""
        text = batch.text_features["text"].to(self.device)
        uniform = rand(draws.samples, (len(batch.texts), 2), device=self.device)

        def choose(scores: Tensor) -> tuple[Tensor, Tensor]:
            weights = negative_weights(scores.detach(), self.alike(batch, own=True))
            return tuple(drawn(each, column) for each, column in zip(weights, uniform.unbind(1), strict=True))

        latents = self.latents(*self.masked(batch))
        return self.objectives(text.ids, text.mask, *latents, choose, self.alike(batch, everywhere=True))

    def objectives(self, ids: Tensor, mask: Tensor, latents: Tensor, keep: Tensor | None, codes: Tensor, choose,
                   same: Tensor | None = None) -> dict[str, Tensor]:  # fmt: skip
        """Weighted terms. choose(similarities) -> the wrong motion of each text (B,), and the wrong text of each motion."""
        config, smoothing = self.config, self.config.label_smoothing
        asked, said_of = self.saying(ids, mask, latents, keep)
        queries, texts = self.unit_vectors(asked, self.read_text(ids, mask), self.asked(keep))
        found = contrast(similarities(all_rows(queries), all_rows(texts), self.heads.scale), smoothing, same)
        terms = {name: 0.5 * config.lambda_contrastive * term for name, term in found.items()}
        motions, others = choose(similarities(queries, texts, self.heads.scale))
        own = torch.arange(0, len(ids), config.match_every, device=ids.device)
        of_text, of_motion = torch.cat([own, own, others[own]]), torch.cat([own, motions[own], own])
        logits, _ = self.matching(ids[of_text], mask[of_text], latents[of_motion], None if keep is None else keep[of_motion])
        right = (torch.arange(len(of_text), device=ids.device) < len(own)).long()
        terms["matching"] = config.lambda_matching * F.cross_entropy(logits, right)
        said = captioning(self.qformer.word_logits, said_of[:, :-1], ids[:, 1:], mask[:, 1:], smoothing, self.said_words)
        told = generation(self.heads.motion_classes(self.telling(ids, mask, self.asked(keep))), codes, smoothing)
        return terms | {"captioning": config.lambda_captioning * said, "generation": config.lambda_generation * told}

    def alike(self, batch: Batch, own: bool = False, everywhere: bool = False) -> Tensor | None:
        """(B, B) True at captions and motions that say the same and are no negatives of one another; `own`: their own among
        them; `everywhere`: of the batches of all processes. None as published.
        """
        if self.config.duplicates == "published":
            return None
        keys = torch.tensor([meaning_key(text) for text in batch.texts], device=self.device)
        keys = all_rows(keys) if everywhere else keys
        alike = keys[:, None] == keys
        return alike if own else alike & ~torch.eye(len(alike), dtype=torch.bool, device=self.device)

    # ----------------------------------------------------------------------------------------------------------------- embedding

    def space(self) -> VectorSpace:
        similarity = "euclidean" if self.config.duplicates == "published" else "cosine"
        return VectorSpace("LaMP", self.config.embedding, (self.tokenizer.config.downsampling, self.frames), similarity)

    def encode_words(self, texts: Sequence[str]) -> TextFeatures:
        """Word pieces of texts."""
        if self.text_encoder is None:
            self.text_encoder = WordPieces(self.config.text_tower, self.config.text_tokens, self.config.plain_texts)
        return self.text_encoder.encode(list(texts)).to(self.device)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        text = self.encode_words([each if isinstance(each, str) else each.text for each in texts])
        return self.heads.text_vector(self.read_text(text.ids, text.mask)[:, 0])

    def embed_motions(self, motions: Sequence[np.ndarray]) -> Tensor:
        motion, mask = self.padded(motions)
        latents, keep, _ = self.latents(self.normalise(motion) * mask[..., None], mask)
        return mean_of(self.heads.motion_vector(self.read_motion(latents, keep)), self.asked(keep))

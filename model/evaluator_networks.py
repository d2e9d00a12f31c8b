"""The networks of the evaluator and of the length estimator (Guo et al. 2022). Motion is normalised, (B, T, D)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

SLOPE, DROPOUT = 0.2, 0.2


def initialise(network: nn.Module) -> None:
    """Xavier-normal weights and zero biases of linear maps and convolutions; GRUs keep torch's own."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d)):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)


class MovementEncoder(nn.Module):
    """Latents (B, T/4, C) of normalised motion without contacts (B, T, D - 4), T a multiple of 4."""

    def __init__(self, num_columns: int, hidden: int, latent: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(num_columns, hidden, 4, 2, 1), nn.Dropout(DROPOUT), nn.LeakyReLU(SLOPE),
            nn.Conv1d(hidden, latent, 4, 2, 1), nn.Dropout(DROPOUT), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.output = nn.Linear(latent, latent)
        initialise(self)

    def forward(self, motion: Tensor) -> Tensor:
        return self.output(self.convolutions(motion.mT).mT)


class MovementDecoder(nn.Module):
    """Normalised motion (B, T, D) from latents (B, T/4, C): the other half of the movement autoencoder."""

    def __init__(self, latent: int, hidden: int, num_features: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.ConvTranspose1d(latent, hidden, 4, 2, 1), nn.LeakyReLU(SLOPE),
            nn.ConvTranspose1d(hidden, num_features, 4, 2, 1), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.output = nn.Linear(num_features, num_features)
        initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        return self.output(self.convolutions(latents.mT).mT)


class SequenceReader(nn.Module):
    """Last states (B, 2 H) of a bidirectional GRU over sequences (B, N, C) of given lengths, in the order they came."""

    def __init__(self, num_inputs: int, hidden: int):
        super().__init__()
        self.input = nn.Linear(num_inputs, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.input(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.expand(-1, len(x), -1).contiguous())  # (2, B, H)
        return torch.cat([last[0], last[1]], dim=-1)


def projection(*sizes: int) -> nn.Sequential:
    """Linear maps with LayerNorm and LeakyReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class MotionEncoder(nn.Module):
    """Embeddings (B, C) of movement latents (B, N, C) of given lengths (B,)."""

    def __init__(self, latent: int, hidden: int, embedding: int):
        super().__init__()
        self.reader = SequenceReader(latent, hidden)
        self.output = projection(2 * hidden, hidden, embedding)
        initialise(self)

    def forward(self, latents: Tensor, lengths: Tensor) -> Tensor:
        return self.output(self.reader(latents, lengths))


class WordReader(nn.Module):
    """States (B, 2 H) of texts: word vectors, to which the class of each word is added where it is known."""

    def __init__(self, word_dim: int, pos_dim: int, hidden: int):
        super().__init__()
        self.sizes = [word_dim, pos_dim]
        self.pos_projection = nn.Linear(pos_dim, word_dim) if pos_dim else None
        self.reader = SequenceReader(word_dim, hidden)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """words (B, L, C + K): a vector of each word and which of K classes it is of, of texts of `lengths` (B,) words."""
        vectors, classes = words.split(self.sizes, dim=-1)  # (B, L, C), (B, L, K)
        if self.pos_projection is not None:
            vectors = vectors + self.pos_projection(classes)
        return self.reader(vectors, lengths)


class CaptionEncoder(nn.Module):
    """Embeddings (B, C) of texts."""

    def __init__(self, word_dim: int, pos_dim: int, hidden: int, embedding: int):
        super().__init__()
        self.words = WordReader(word_dim, pos_dim, hidden)
        self.output = projection(2 * hidden, hidden, embedding)
        initialise(self)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        return self.output(self.words(words, lengths))

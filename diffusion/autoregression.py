"""Decoding of one token after another: functions over `advance(ids, rows) -> logits`, which knows what was said before.

The likeliest token at each place, or beams (Sutskever et al. 2014, §3.2): the likeliest so many sentences so far are carried on,
and finished ones compared by their mean log likelihood.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

# (ids (R,) said last, rows (R,) of the call before that they go on from) -> logits (R, V) of what follows
Advance = Callable[[Tensor, Tensor], Tensor]


def decode_greedily(first: Tensor, advance: Advance, stop_id: int, most: int) -> list[list[int]]:
    """The likeliest tokens, up to the one that ends, at most so many, of logits (B, V) of the first."""
    logits, said = first, [[] for _ in range(len(first))]
    open_rows = torch.arange(len(first), device=first.device)  # of which sentence each row of the logits is
    for _ in range(most):
        ids = logits.argmax(-1)
        going = ids != stop_id
        for row, token in zip(open_rows[going].tolist(), ids[going].tolist(), strict=True):
            said[row].append(token)
        rows = going.nonzero()[:, 0]
        if not len(rows) or max(map(len, said)) == most:
            break
        open_rows, logits = open_rows[rows], advance(ids[rows], rows)
    return said


@dataclass
class _Beams:
    """The sentences of one sample: those carried on with their log likelihoods, and finished ones with their scores."""

    size: int
    going: list[tuple[list[int], float]] = field(default_factory=list)
    finished: list[tuple[float, list[int]]] = field(default_factory=list)
    done: bool = False

    def finish(self, tokens: list[int], total: float, length: int, penalty: float) -> None:
        """Keeps a sentence if it is among the best so many; of equal ones the first."""
        self.finished.append((total / length**penalty, tokens))
        self.finished.sort(key=lambda each: -each[0])
        del self.finished[self.size :]

    def hopeless(self, best: float, length: int, penalty: float) -> bool:
        """Whether no sentence that is carried on can become better than the finished ones."""
        return len(self.finished) == self.size and self.finished[-1][0] >= best / length**penalty


def decode_beams(
    first: Tensor, advance: Advance, stop_id: int, most: int, beams: int, length_penalty: float = 1.0
) -> list[list[int]]:
    """The best sentence of each sample, without the token that ends it, of logits (B, V) of the first token.

    Scores are log likelihoods over lengths, the end counted, to the power of length_penalty.
    """
    samples = [_Beams(beams) for _ in range(len(first))]
    scores, rows_of = first.log_softmax(-1), [[(number, [], 0.0)] for number in range(len(first))]
    for length in range(1, most + 1):
        asked: list[tuple[int, int]] = []  # token and row of all that is carried on
        nexts: list[list[tuple[int, list[int], float]]] = []
        for sample, rows in zip(samples, rows_of, strict=True):
            nexts.append([])
            if sample.done:
                continue
            totals = scores[[row for row, _, _ in rows]] + scores.new_tensor([total for _, _, total in rows])[:, None]
            values, places = totals.flatten().topk(min(2 * beams, totals.numel()))
            for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                row, tokens, _ = rows[place // totals.shape[1]]
                token = place % totals.shape[1]
                if token == stop_id:
                    if rank < beams:
                        sample.finish(tokens, value, length, length_penalty)
                elif len(nexts[-1]) < beams:
                    nexts[-1].append((len(asked), [*tokens, token], value))
                    asked.append((token, row))
            sample.done = sample.hopeless(values[0].item(), length, length_penalty)
            if sample.done:
                del asked[len(asked) - len(nexts[-1]) :]
                nexts[-1] = []
            sample.going = [(tokens, total) for _, tokens, total in nexts[-1]]
        rows_of = nexts
        if not asked or length == most:
            break
        tokens, rows = torch.tensor(asked, device=first.device).unbind(1)
        scores = advance(tokens, rows).log_softmax(-1)
    for sample in samples:
        for tokens, total in [] if sample.done else sample.going:
            sample.finish(tokens, total, len(tokens), length_penalty)
    return [sample.finished[0][1] for sample in samples]

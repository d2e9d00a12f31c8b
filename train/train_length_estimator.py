"""python -m train.train_length_estimator --save_dir save/lengths --dataset humanml: how long does what a text says take?

A classifier of 50 lengths in units of 4 frames (Guo et al. 2022, text2length), for generators that are given no length.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from protos.bounds import BATCH_SIZE, CHANNELS, STEPS, WEIGHT, Range
from protos.options import parse, run_command
from protos.processes import start
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult


@dataclass(frozen=True, kw_only=True)
class LengthEstimatorOptions(TrainOptions):
    """Train a length estimator on a prepared dataset."""

    dataset: str = "humanml"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    words: Literal["auto", "glove", "minilm"] = "auto"
    """What is read of texts: the published word vectors, or MiniLM's; auto takes the former where they are."""
    glove_folder: Path = Path("checkpoints/official/glove")
    """Folder of our_vab_data.npy, our_vab_words.pkl and our_vab_idx.pkl."""
    hidden: Annotated[int, CHANNELS] = 512
    """Channels of the GRU, in each direction."""

    num_steps: Annotated[int, STEPS] = 100_000
    """Steps in all (published: 300 epochs of 64 texts, 110,000 steps)."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Texts per process and step."""
    grad_clip: Annotated[float, WEIGHT] = 0.5
    """Largest norm of the gradient; 0 does not clip."""
    use_ema: bool = False
    """Judge and save the moving average of the weights."""
    save_interval: Annotated[int, STEPS] = 5_000
    """Steps between checkpoints."""
    eval_interval: Annotated[int, Range(0, 1_000_000_000)] = 5_000
    """Steps between evaluations on the validation split; the best is kept in save_dir/best."""
    log_interval: Annotated[int, STEPS] = 100
    """Steps between lines of the log."""


def train_length_estimator(options: LengthEstimatorOptions) -> "TrainResult":
    """Trains and saves. ValueError or OSError, in a user's words, for what cannot be trained."""
    import torch
    from torch.nn import functional as F

    from data_loaders.batches import CaptionBatches, TextMotionDataset
    from data_loaders.corpus import Corpus
    from model.evaluators import LENGTH_CLASSES, UNIT_LENGTH, LengthEstimator, LengthEstimatorConfig
    from model.pretrained import write_files
    from protos.randomness import seed_everything
    from train.loop import train
    from train.train_evaluator_setup import CaptionWords

    corpus = Corpus.open(options.dataset)
    captions = CaptionWords(corpus, options.words, options.glove_folder)
    limits = corpus.skeleton.length_limits if corpus.heading == "published" else (2 * UNIT_LENGTH, 0)
    config = LengthEstimatorConfig(
        hidden=options.hidden, words=captions.source.name, word_dim=captions.source.word_dim,
        pos_dim=captions.source.pos_dim, dataset=options.dataset, fps=corpus.fps, shortest_units=limits[0] // UNIT_LENGTH,
    )  # fmt: skip
    seed_everything(options.seed)
    networks = LengthEstimator(config, corpus.statistics)
    data, held_out = (TextMotionDataset(corpus, split, min_frames=limits[0], crop_rule="whole") for split in ("train", "val"))

    def logits_and_units(networks, batch):
        device = next(networks.parameters()).device
        units = (batch.lengths // UNIT_LENGTH).clamp(max=LENGTH_CLASSES - 1).to(device)  # (B,)
        return networks(captions.encode(batch.texts).to(device)), units

    def loss(networks, batch, generators):
        return {"cross_entropy": F.cross_entropy(*logits_and_units(networks, batch), reduction="none")}

    @torch.no_grad()
    def evaluate(networks, step):
        batch = CaptionBatches(held_out, min(len(held_out), 512), options.seed)(0, 0, 1)
        logits, units = logits_and_units(networks, batch)
        expected = logits.softmax(-1) @ torch.arange(LENGTH_CLASSES, device=logits.device, dtype=logits.dtype)
        error = UNIT_LENGTH / corpus.fps * (expected - units).abs().mean()
        return {"loss": F.cross_entropy(logits, units).item(), "mean_error_seconds": error.item()}

    def save(folder, networks):
        write_files(folder, config, networks.state_dict(), corpus.statistics)

    batches = CaptionBatches(data, options.batch_size, options.seed)
    judged = evaluate if options.eval_interval else None
    return train(networks, loss, batches, options, save, judged, stamp=corpus.stamp)


def main(argv: list[str] | None = None) -> None:
    options = parse(LengthEstimatorOptions, argv, __doc__)
    start(train_length_estimator, options)


if __name__ == "__main__":
    run_command(main)

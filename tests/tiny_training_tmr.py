"""Options of TMR so small that a run takes a second."""

from dataclasses import replace

from train.tmr_options import TMROptions

SECONDS = 1.0, 10.0  # shortest and longest motion of these options


def small(dataset, save_dir, **changes):
    options = TMROptions(
        save_dir=str(save_dir), dataset=str(dataset), text_encoder="minilm", sentence_encoder="minilm", latent_dim=16,
        ff_size=16, num_layers=1, num_heads=2, min_seconds=SECONDS[0], num_steps=6, batch_size=4, lr=1e-3, log_interval=1,
        save_interval=3, eval_interval=3, device="cpu",
    )  # fmt: skip
    return replace(options, **changes)

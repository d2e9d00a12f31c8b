"""The README is executed: each of its commands runs, on a small dataset and with few steps where it would take long."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_loaders.corpus import Corpus
from tests.pairs import greeting, pair_corpus, write_interhuman, write_takes
from tests.synthetic import raise_hand, walk
from tests.tiny_people import tiny_in2in, tiny_interclip, tiny_reaction

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]

# What sets the machine up (CI does that before it comes here) or needs the network.
NOT_RUN = ("make ", "python3 -m venv", ".venv/bin/pip", ".venv/bin/python -m pytest", "git clone")
QUICK_SAMPLE = "--num_steps 2 --motion_length 1 --num_repetitions 1"
QUICK_TRAIN = (
    "--num_steps 2 --batch_size 2 --num_layers 1 --latent_dim 16 --ff_size 16 --num_heads 2 --diffusion_steps 5 "
    "--sampling_steps 2 --text_encoder_type minilm --precision fp32 --log_interval 1 --device cpu"
)
QUICK_TMR = (
    "--dataset pools --num_steps 2 --batch_size 4 --latent_dim 16 --ff_size 16 --num_layers 1 --num_heads 2 --eval_interval 0 "
    "--device cpu"
)
QUICK_EVAL = "--dataset pools --evaluator checkpoints/tiny_evaluator --replications 1 --num_steps 2 --device cpu"
# Beginning of a command -> flags that make it short; later flags win over the README's.
SHORTER = {
    "python -m sample.sample": QUICK_SAMPLE,
    "python -m data_loaders.prepare": "--workers 1",
    "python -m train.train_lsremgm": QUICK_TRAIN,
    "python -m train.train_latent": QUICK_TRAIN,
    "python -m train.train_distilled": (
        "--num_steps 2 --batch_size 2 --parts 2 --steps_per_part 1 --eval_interval 0 --log_interval 1 --device cpu"
    ),
    "python -m evaluations.eval_steps": (
        "--dataset pools --evaluator checkpoints/tiny_evaluator --num_motions 32 --probe_seeds 1 --sampling_steps 1 2 "
        "--device cpu"
    ),
    "python -m evaluations.eval_humanml": QUICK_EVAL,
    "python -m evaluations.board": QUICK_EVAL.replace("--num_steps 2", "--probe_seeds 0 --model_paths checkpoints/starter"),
    "python -m evaluations.eval_evaluator": "--dataset pools --evaluator checkpoints/tiny_evaluator --replications 1",
    "python -m evaluations.eval_retrieval": "--dataset pools --device cpu",
    "python -m sample.retrieve encode_dataset --dataset": "--dataset pools --split test --device cpu",
    "python -m evaluations.eval_localize": "--dataset pools --clips_per_motion 2 --device cpu",
    "python -m evaluations.eval_m2t": "--dataset pools --evaluator checkpoints/tiny_evaluator --replications 2 --device cpu",
    "python -m sample.retrieve search": "--k 2 --device cpu",
    "python -m sample.retrieve": "--device cpu",
    "python -m train.train_tmr": QUICK_TMR,
    "python -m train.train_temos": QUICK_TMR,
    "python -m train.train_evaluator": (
        "--movement_steps 2 --num_steps 2 --batch_size 2 --movement_batch_size 2 --eval_interval 0 --device cpu"
    ),
    "python -m train.train_length_estimator": "--num_steps 2 --batch_size 2 --hidden 16 --eval_interval 0 --device cpu",
    "python -m train.train_autoencoder": (
        "--num_steps 2 --batch_size 2 --window_size 32 --width 16 --eval_interval 2 --device cpu"
    ),
    "python -m evaluations.eval_probes --model_path save/in2in": "--seeds 1 --only spin --sampling_steps 2 --device cpu",
    "python -m evaluations.eval_probes --model_path": "--seeds 1 --only bow --num_steps 2 --physics_clips 2 --device cpu",
}
QUICK_TOKENS = "--num_steps 2 --batch_size 4 --warmup_steps 1 --eval_interval 2 --precision fp32 --device cpu"
SHORTER |= {
    "python -m train.train_vq": f"{QUICK_TOKENS} --width 12 --code_dim 6 --num_codes 8 --depth 1 --window_size 16",
    "python -m evaluations.eval_vq": "--dataset pools --evaluator checkpoints/tiny_evaluator --replications 1 --device cpu",
    "python -m train.train_lamp": f"{QUICK_TOKENS} --num_layers 1 --memory_dim 8 --query_ff_size 8 --embedding 8",
    "python -m train.train_t2m_transformer": (
        f"{QUICK_TOKENS} --latent_dim 16 --ff_size 16 --num_layers 1 --num_heads 2 --text_encoder minilm"
    ),
    "python -m train.train_pg_tokenizer": f"{QUICK_TOKENS} --width 12 --code_dim 6 --num_codes 8 --depth 1 --window_size 16",
    **dict.fromkeys(("python -m train.train_base_trans", "python -m train.train_refine_trans"),
                    f"{QUICK_TOKENS} --latent_dim 16 --ff_size 16 --num_layers 2 --num_heads 2"),
    "python -m train.train_m2t": f"{QUICK_TOKENS} --language_layers 1 --language_heads 2 --language_ff 8",
    "python -m sample.caption": "--max_new_tokens 3 --beams 2 --device cpu",
}
QUICK_PAIRS = "--dataset pairs --evaluator checkpoints/tiny_interclip --replications 2 --sampling_steps 2 --device cpu"
QUICK_PEOPLE = (
    "--num_steps 2 --batch_size 2 --num_layers 1 --latent_dim 16 --ff_size 16 --num_heads 2 --text_heads 2 --text_ff_size 16 "
    "--diffusion_steps 5 --sampling_steps 2 --max_positions 400 --warmup_steps 1 --device cpu"
)
SHORTER |= {
    "python -m train.train_reaction": (
        f"{QUICK_TRAIN} --encoder_dim 8 --encoder_layers 1 --encoder_heads 2 --encoder_ff_size 8 --semantic_dim 8 "
        "--latest_step 3 --num_atomic_actions 4"
    ),
    "python -m sample.react": "--sampling_steps 2 --num_repetitions 1 --device cpu",
    "python -m sample.edit": "--sampling_steps 2 --device cpu",
    "python -m train.train_in2in": QUICK_PEOPLE,
    "python -m sample.interact": "--sampling_steps 2 --motion_length 1 --device cpu",
    "python -m train.train_interclip": (
        "--dataset pairs --num_steps 2 --batch_size 4 --latent_dim 16 --ff_size 16 --num_layers 1 --eval_interval 2 --device cpu"
    ),
    "python -m evaluations.eval_interhuman --model_path real": QUICK_PAIRS,
    "python -m evaluations.eval_interhuman --task reaction": (
        "--dataset pairs --evaluator checkpoints/tiny_interclip --samples 2 --sampling_steps 2 --device cpu "
        "--model_path checkpoints/tiny_reaction"
    ),
    "python -m evaluations.eval_interhuman": f"{QUICK_PAIRS} --model_path checkpoints/tiny_in2in",
    "python -m evaluations.eval_dualmdm": (
        f"{QUICK_PAIRS} --model_path checkpoints/tiny_in2in --individual_path checkpoints/tiny_prior --texts pools "
        "--clips 2 --motions 2"
    ),
}
# Hours, timings, or files that cannot be had: these must at least be understood.
ONLY_PARSED = (
    "python -m benchmarks.", "python -m sample.demo", "python -m evaluations.eval_probes --validate",
    "python -m protos.fetch mdm", "python -m sample.edit clip.npy --wish",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, recordings, small_dataset, pool_dataset, tiny_evaluator) -> Path:
    """A folder with what the README's commands expect to find: datasets, recordings, a mapping, prompts, motions."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(recordings, folder / "raw" / "bandai_namco")
    shutil.copytree(recordings, folder / "my_bvh")
    shutil.copy(ROOT / "data_loaders" / "mappings" / "bandai_namco.toml", folder / "my_skeleton.toml")
    write_interhuman(folder / "raw" / "InterHuman")
    write_takes(folder / "raw" / "two_person", {f"take{i}": greeting(60 + 6 * i) for i in range(4)})
    official = folder / "dataset" / "HumanML3D"
    shutil.copytree(small_dataset, official, ignore=shutil.ignore_patterns("corpus", "progress.jsonl", "report.txt"))
    (folder / "prompts.txt").write_text("a person walks\nsomeone bows#30\n")
    (folder / "captions.txt").write_text("000\ta person walks\n001\ta person raises the left hand\n")
    (folder / "checkpoints").mkdir()
    shutil.copytree(ROOT / "checkpoints" / "starter", folder / "checkpoints" / "starter")
    shutil.copytree(ROOT / "checkpoints" / "tmr", folder / "checkpoints" / "tmr")
    shutil.copytree(pool_dataset, folder / "dataset" / "pools")
    shutil.copytree(tiny_evaluator, folder / "checkpoints" / "tiny_evaluator")
    corpus = Corpus(pair_corpus(folder / "dataset" / "pairs"))
    tiny_interclip(folder / "checkpoints" / "tiny_interclip")
    tiny_in2in(folder / "checkpoints" / "tiny_in2in", corpus)
    tiny_reaction(folder / "checkpoints" / "tiny_reaction")
    tiny_in2in(folder / "checkpoints" / "tiny_prior", corpus, one=True)
    np.save(folder / "clip.npy", walk(60).astype(np.float32))
    np.save(folder / "long.npy", np.concatenate([walk(80), raise_hand(80)]).astype(np.float32))
    (folder / "my_motions").mkdir()
    for i in range(33):
        np.save(folder / "my_motions" / f"{i}.npy", walk(60 + i, fps=30.0).astype(np.float32))
        (folder / "my_motions" / f"{i}.txt").write_text(f"a person walks, {i}")
    return folder


def shortened(command: str) -> list[str]:
    extra = next((flags for start, flags in SHORTER.items() if command.startswith(start)), "")
    if "mdm" in command:  # the official weights are not here: the same command on ours
        command = re.sub(r"--model_path \S+", "--model_path checkpoints/starter", command)
    words = shlex.split(command) + shlex.split(extra)
    return [sys.executable, *words[1:]]


@pytest.mark.slow
def test_every_command_of_the_readme_runs(workplace):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = 0
    for command in COMMANDS:
        if command.startswith(NOT_RUN):
            continue
        words = shortened(command)
        if command.startswith(ONLY_PARSED):
            words.append("--help")
        done = subprocess.run(words, cwd=workplace, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        ran += 1
    assert ran >= 12
    assert (workplace / "dataset" / "mine" / "corpus").is_dir() and (workplace / "checkpoints" / "mine").is_dir()


def test_the_python_of_the_readme_runs(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["motion"].joints.shape == (1, 80, 22, 3)


def test_every_path_of_the_readme_exists():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        if not path.startswith("http"):
            assert (ROOT / path).exists(), path


def test_what_the_readme_fetches_is_in_the_manifest():
    from protos.fetch import read_manifest

    for name in re.findall(r"protos\.fetch (?!--)(\S+)", README):
        assert name in read_manifest()

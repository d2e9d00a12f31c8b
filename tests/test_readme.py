"""The documentation is executed: each command of README.md and of the pages in docs/ runs, in one folder, on a small dataset and
with few steps where it would take long.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_loaders.corpus import Corpus
from data_loaders.known_datasets import DATASET_ROOT, dataset_named
from tests.pairs import greeting, pair_corpus, write_interhuman, write_takes
from tests.synthetic import raise_hand, walk, write_cmu_takes
from tests.test_house import LAYERS
from tests.tiny_people import tiny_in2in, tiny_interclip, tiny_reaction

ROOT = Path(__file__).resolve().parents[1]
# In the order in which they are executed: what a command needs, an earlier one makes.
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md", "docs/installing.md", "docs/text_to_motion.md", "docs/bodies.md", "docs/data.md", "docs/training.md",
        "docs/tokens.md", "docs/pose_codes.md", "docs/two_people.md", "docs/reactions.md", "docs/editing.md",
        "docs/long_motions.md", "docs/smpl.md", "docs/onnx.md", "docs/formats.md", "docs/captions.md", "docs/evaluation.md",
        "docs/search.md", "docs/speed.md", "docs/new_system.md",
    )
}  # fmt: skip
# Their links are followed too.
OTHER_PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "CONTRIBUTING.md", "CHANGELOG.md", "dataset/README.md", "checkpoints/README.md", "checkpoints/starter/README.md",
        "checkpoints/tmr/README.md", "checkpoints/evaluators/bandai_cmu/README.md", "checkpoints/reaction/README.md",
        "checkpoints/interclip/README.md",
    )
}  # fmt: skip
ELSEWHERE = "docs/new_system.md"  # its Python is a whole system, which tests/test_new_system.py trains and samples


def blocks(language: str, text: str) -> list[str]:
    """What stands between fences of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def each_once(texts: list[str]) -> list[str]:
    """In the order of their first appearance: the README shows some of what the pages have whole."""
    return list(dict.fromkeys(texts))


COMMANDS = each_once([
    line.split("  #")[0].strip()
    for text in PAGES.values() for block in blocks("bash", text) for line in block.splitlines() if line.strip()
])  # fmt: skip

# What sets the machine up (CI does that before it comes here) or needs the network.
NOT_RUN = ("make ", "pip ", "python3 -m venv", ".venv/bin/pip", ".venv/bin/python -m pytest", "git clone",
           "npm install ")  # fmt: skip
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
# Beginning of a command -> flags that make it short; later flags win over those of the page.
SHORTER = {
    **dict.fromkeys(("python -m sample.sample", "moveo sample"), QUICK_SAMPLE),
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
    "--text_layers 1 --diffusion_steps 5 --sampling_steps 2 --max_positions 400 --warmup_steps 1 --eval_interval 0 --device cpu"
)
SHORTER |= {
    "python -m train.train_reaction": (
        f"{QUICK_TRAIN} --encoder_dim 8 --encoder_layers 1 --encoder_heads 2 --encoder_ff_size 8 --semantic_dim 8 "
        "--latest_step 3 --num_atomic_actions 4 --eval_interval 0"
    ),
    "python -m sample.react": "--sampling_steps 2 --num_repetitions 1 --device cpu",
    "python -m sample.edit": "--sampling_steps 2 --device cpu",
    "python -m evaluations.eval_edits": "--dataset pools --clips 1 --only raise --device cpu",
    "python -m sample.compose": "--sampling_steps 2 --no_video --device cpu",
    "python -m evaluations.eval_cleanup": (
        "--dataset pools --evaluator checkpoints/tiny_evaluator --num_motions 32 --only bow --probe_seeds 1 --sampling_steps 2 "
        "--device cpu"
    ),
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
    "python -m evaluations.eval_ablations": (
        "--dataset pairs --evaluator checkpoints/tiny_interclip --samples 2 --sampling_steps 2 --device cpu "
        "--model_paths checkpoints/tiny_reaction"
    ),
    "python -m evaluations.eval_dualmdm": (
        f"{QUICK_PAIRS} --model_path checkpoints/tiny_in2in --individual_path checkpoints/tiny_prior --texts pools "
        "--clips 2 --motions 2"
    ),
}
# Hours, timings, or files that cannot be had: these must at least be understood.
ONLY_PARSED = (
    "python -m data_loaders.prepare two_person --input raw/bandai_namco",
    "python -m data_loaders.prepare merge dataset/two_person",
    "python -m benchmarks.", "python -m sample.demo", "python -m evaluations.eval_probes --validate",
    "python -m protos.fetch mdm", "python -m sample.edit clip.npy --wish",
    "python -m train.export --checkpoint checkpoints/starter --webapp",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, recordings, small_dataset, pool_dataset, tiny_evaluator) -> Path:
    """A folder with what the commands expect to find: datasets, recordings, a mapping, prompts, motions."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(recordings, folder / "raw" / "bandai_namco")
    shutil.copytree(recordings, folder / "my_bvh")
    write_cmu_takes(folder / "raw")
    shutil.copy(ROOT / "data_loaders" / "mappings" / "bandai_namco.toml", folder / "my_skeleton.toml")
    write_interhuman(folder / "raw" / "InterHuman")
    write_takes(folder / "raw" / "two_person", {f"take{i}": greeting(60 + 6 * i) for i in range(4)})
    official = folder / "dataset" / "HumanML3D"
    shutil.copytree(small_dataset, official, ignore=shutil.ignore_patterns("corpus", "progress.jsonl", "report.txt"))
    (folder / "prompts.txt").write_text("a person walks\nsomeone bows#30\n")
    (folder / "timeline.txt").write_text("a person walks forward # 3\nwaves the right hand # 1 # 2\na person bows # 3\n")
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
    return [sys.executable, *(["-m", "moveo"] if words[0] == "moveo" else []), *words[1:]]


@pytest.mark.slow
def test_every_command_of_readme_and_docs_runs(workplace):
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
    assert ran >= 80
    assert (workplace / "dataset" / "mine" / "corpus").is_dir() and (workplace / "checkpoints" / "mine").is_dir()


def made(command: str) -> set[str]:
    """Folders that a command writes."""
    words = shlex.split(command)
    writing = ("--save_dir", "--output", "--onnx", "--webapp", *(("--gallery",) if "encode_dataset" in words else ()))
    return {value for flag, value in pairwise(words) if flag in writing}


def needed(command: str) -> set[str]:
    """Trainings, datasets and galleries that a command reads, as folders."""
    words = shlex.split(command)
    read = {value for flag, value in pairwise(words) if flag not in ("--save_dir", "--output", "--input")} - made(command)
    folders = {"/".join(value.split("/")[:2]) for value in read if value.startswith(("save/", "dataset/", "outputs/"))}
    for name in (value for flag, value in pairwise(words) if flag == "--dataset"):
        known = dataset_named(name)
        folders.add((DATASET_ROOT / (known.folder if known else name)).as_posix())
    return folders


def test_what_a_command_needs_an_earlier_one_makes():
    there: set[str] = set()
    for command in COMMANDS:
        if command.startswith("python "):
            assert needed(command) <= there, f"{command}\nneeds {sorted(needed(command) - there)}"
            there |= made(command)
    assert {"save/in2in", "dataset/HumanML3D", "outputs/gallery"} <= there


def test_every_page_is_executed_and_can_be_reached_from_the_readme():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(PAGES) - {"README.md"}
    assert pages <= {link.partition("#")[0] for link in links(PAGES["README.md"])}


def test_the_python_of_readme_and_docs_runs(folder):
    """Among it the picture of the README."""
    names: dict = {}
    for code in each_once([code for page, text in PAGES.items() if page != ELSEWHERE for code in blocks("python", text)]):
        exec(code, names)
    assert names["motion"].joints.shape == (1, 80, 22, 3)
    with Image.open("outputs/gallery.gif") as made, Image.open(ROOT / "checkpoints/starter/gallery.gif") as shown:
        assert (made.size, made.n_frames) == (shown.size, shown.n_frames)


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Where a page points to within the repository."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if not link.startswith("http")]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_links_lead_somewhere(page):
    for link in links((PAGES | OTHER_PAGES)[page]):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_what_is_fetched_is_in_the_manifest():
    from protos.fetch import read_manifest

    named = {name for text in PAGES.values() for name in re.findall(r"protos\.fetch (?!--)(\S+)", text)}
    assert named and named <= set(read_manifest())


def test_every_file_that_the_code_names_stands_on_the_page_of_formats():
    """By their names as constants; what comes with the code is no file that anybody exchanges."""
    kinds = "json|jsonl|npz|npy|txt|csv|png|mp4|html|yaml|pt|tar|ckpt|pkl|safetensors|onnx|obj"
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*")]
    ours = {path.name for path in files} | {"README.md"}
    named = {name for path in files if path.suffix == ".py"
             for name in re.findall(rf'"([\w-]+\.(?:{kinds}))"', path.read_text(encoding="utf-8"))} - ours  # fmt: skip
    assert len(named) > 50
    assert not [name for name in sorted(named) if name not in PAGES["docs/formats.md"]]

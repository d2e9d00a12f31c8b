"""Commands and the files they read: each file is attacked while the others stay whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_loaders.features import Features


@dataclass(frozen=True)
class Scenario:
    """A command (`in` is its folder of inputs, `out` what it writes) and the files of its input to attack."""

    name: str
    module: str
    arguments: str
    base: str
    """Folder of the prepared inputs that is copied for every case."""
    targets: tuple[str, ...]
    writes: tuple[str, ...] = ()
    """Beginnings of names of input files that the command may change: a run, a gallery."""
    weight: float = 1.0
    """How many cases of each target, beside the others."""
    cwd: str = "."
    """Folder the command is run in, from the one that holds `in`."""


SAMPLE = "--no_video --num_repetitions 1 --motion_length 1 --device cpu --output_dir out"
TMR = "--model_path in/tmr"
LOOP = "--dataset in/dataset --num_steps 2 --batch_size 2 --device cpu --num_workers 0 --log_interval 1 --save_interval 1"
TRAIN = f"{LOOP} --latent_dim 16 --num_layers 1 --num_heads 2 --ff_size 16"
CHECKPOINT = ("config.json", "stats.npz", "model.safetensors")
CORPUS = ("corpus/index.json", "corpus/captions.json", "corpus/features.npy")


def _in(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


SCENARIOS = (
    Scenario("sample", "sample.sample", f"--model_path in/model --text_prompt walk {SAMPLE}", "model", _in("model", CHECKPOINT),
             weight=3),
    Scenario("sample from a file", "sample.sample", f"--model_path in/model --input_text in/prompts.txt {SAMPLE}", "prompts",
             ("prompts.txt",), weight=2),
    Scenario("compose a timeline", "sample.compose",
             "in/timeline.txt --model_path in/model --no_video --device cpu --output_dir out", "prompts", ("timeline.txt",)),
    Scenario("encode a motion", "sample.retrieve", f"encode_motion {TMR} --motion in/joints.npy --output out/v.npy", "motions",
             ("joints.npy",), weight=2),
    Scenario("encode features", "sample.retrieve", f"encode_motion {TMR} --motion in/features.npy --output out/v.npy", "motions",
             ("features.npy",)),
    Scenario("encode a BVH file", "sample.retrieve", f"encode_motion {TMR} --motion in/take.bvh --output out/v.npy", "motions",
             ("take.bvh",), weight=2),
    Scenario("encode results", "sample.retrieve", f"encode_motion {TMR} --motion in/motions.npz --output out/v.npy", "motions",
             ("motions.npz",)),
    Scenario("encode published results", "sample.retrieve", f"encode_motion {TMR} --motion in/motions.npy --output out/v.npy",
             "motions", ("motions.npy",)),
    Scenario("encode a text", "sample.retrieve", f"encode_text {TMR} --text walk --output out/v.npy", "motions",
             _in("tmr", CHECKPOINT), weight=2),
    Scenario("search", "sample.retrieve", f"search {TMR} --gallery in/gallery --text walk", "gallery",
             ("gallery/gallery.json", "gallery/motions-*.npy"), weight=2),
    Scenario("name a motion", "sample.retrieve", f"search {TMR} --gallery in/gallery --motion in/more/a.npy --to text", "gallery",
             ("gallery/gallery.json", "gallery/texts-*.npy", "more/a.npy")),
    Scenario("extend a gallery", "sample.retrieve", f"encode_dataset {TMR} --motions in/more --gallery in/gallery", "gallery",
             ("gallery/gallery.json", "gallery/manifest.json", "more/a.npy"), ("gallery",)),
    Scenario("describe a motion", "sample.describe", "in/joints.npy --output out/said.json", "motions", ("joints.npy",),
             weight=0.5),
    Scenario("render a motion", "visualize.render", "in/joints.npy --format bvh,html,npz --loop --output_dir out", "motions",
             ("joints.npy",)),
    Scenario("render results", "visualize.render", "in/motions.npz --format glb,vrma --root_bone --output_dir out", "motions",
             ("motions.npz",), weight=0.5),
    Scenario("localise", "sample.retrieve",
             f"localize {TMR} --motion in/joints.npy --input_text in/prompts.txt --output_dir out", "motions",
             ("joints.npy", "prompts.txt"), weight=0.5),
    Scenario("prepare BVH", "data_loaders.prepare", "bvh --input in/raw --mapping in/map.toml --output out --workers 1", "raw",
             ("raw/captions.json", "raw/a.bvh", "raw/b.txt", "raw/train.txt", "map.toml"), weight=1.5),
    Scenario("prepare joints", "data_loaders.prepare", "joints --input in/clips --output out --workers 1", "clips",
             ("clips/a.npy", "clips/a.txt"), weight=1.5),
    Scenario("prepare an official folder", "data_loaders.prepare", "humanml3d --input in/official --output out", "official",
             ("official/Mean.npy", "official/Std.npy", "official/train.txt", "official/texts/000001.txt",
              "official/new_joint_vecs/000001.npy")),
    Scenario("prepare again", "data_loaders.prepare", "bvh --input in/raw --mapping in/map.toml --output in/made --workers 1",
             "made", ("made/progress.jsonl", "made/manifest.json", "made/texts/a.txt", "made/corpus/index.json"), ("made",)),
    Scenario("preview", "visualize.preview", "--dataset in/dataset --num_clips 1", "dataset",
             _in("dataset", (*CORPUS, "train.txt")),
             ("dataset/preview", "dataset/manifest.json")),
    Scenario("judge motions", "evaluations.eval_humanml",
             "--motions in/clips --dataset in/dataset --evaluator in/evaluator --replications 1 --device cpu --output_dir out",
             "judged", ("clips/000.npy", "clips/000.txt", "evaluator/config.json", "evaluator/model.safetensors",
                        "dataset/corpus/captions.json", "dataset/test.txt"), weight=0.7),
    Scenario("measure retrieval", "evaluations.eval_retrieval", f"{TMR} --dataset in/dataset --protocol all --output_dir out",
             "dataset", _in("dataset", (*CORPUS, "test.txt")), weight=0.7),
    Scenario("annotations", "data_loaders.annotations", "dataset --dataset in/dataset --output out/annotations/x", "dataset",
             _in("dataset", (*CORPUS, "train.txt")), weight=0.7),
    Scenario("measure retrieval of annotations", "evaluations.eval_retrieval",
             f"{TMR} --dataset in/datasets/annotations/x --protocol all --output_dir out", "annotated",
             ("datasets/annotations/x/annotations.json", "datasets/annotations/x/splits/test.txt"),
             ("datasets/annotations/x", "datasets/stats", "datasets/motions")),
    Scenario("train", "train.train_lsremgm", f"--save_dir out {TRAIN} --diffusion_steps 4", "dataset",
             _in("dataset", (*CORPUS, "corpus/stats.npz", "train.txt"))),
    Scenario("train on", "train.train_lsremgm", f"--save_dir in/run {TRAIN} --diffusion_steps 4 --num_steps 3", "run",
             ("run/options.json", "run/log.jsonl", "run/step_000000002/training_state.pt", "run/step_000000002/config.json",
              "run/manifest.json"), ("run",)),
    Scenario("export", "train.export", "--checkpoint in/model --output out", "model", _in("model", CHECKPOINT)),
    Scenario("errors of given motions", "evaluations.eval_ape_ave", "--generated in/generated --reference in/reference", "pairs",
             ("generated/a.npy",), weight=0.5),
    Scenario("features of poses", "data_loaders.guoh3dfeats", "--input in/clips --output out", "clips", ("clips/a.npy",),
             weight=0.5),
    Scenario("measure moments", "evaluations.eval_localize",
             f"{TMR} --dataset in/dataset --split all --num_motions 2 --clips_per_motion 2 --device cpu --output_dir out",
             "dataset", ("tmr/config.json", "tmr/stats.npz", "dataset/corpus/captions.json"), weight=0.3),
    Scenario("measure a judge", "evaluations.eval_evaluator",
             "--dataset in/dataset --evaluator in/evaluator --replications 1 --device cpu", "judged",
             ("evaluator/stats.npz", "dataset/corpus/index.json"), weight=0.3),
    Scenario("train TMR", "train.train_tmr", f"--save_dir out {TRAIN} --min_seconds 1 --text_encoder minilm "
             "--sentence_encoder minilm", "dataset", ("dataset/corpus/captions.json", "dataset/train.txt"), weight=0.3),
    Scenario("train TEMOS", "train.train_temos", f"--save_dir out {TRAIN} --min_seconds 1 --text_encoder minilm", "dataset",
             ("dataset/corpus/index.json",), weight=0.3),
    Scenario("train an autoencoder", "train.train_autoencoder", f"--save_dir out {LOOP} --width 8 --latent_channels 4",
             "dataset", ("dataset/corpus/index.json", "dataset/corpus/stats.npz"), weight=0.3),
    Scenario("train an estimator of lengths", "train.train_length_estimator", f"--save_dir out {LOOP} --words minilm --hidden 8",
             "dataset", ("dataset/corpus/captions.json",), weight=0.3),
    Scenario("prepare pairs", "data_loaders.prepare", "two_person --input in/takes --output out --workers 1", "takes",
             ("takes/captions.json", "takes/take0_1.bvh", "takes/take1_2.bvh")),
    Scenario("prepare InterHuman", "data_loaders.prepare", "interhuman --input in/InterHuman --output out --workers 1",
             "InterHuman", _in("InterHuman", ("split/train.txt", "annots/hello0.txt", "annots_individual/person1/hello0.txt",
                                "motions_processed/person2/hello0.npy"))),
    Scenario("make two people", "sample.interact", f"--model_path in/model --text_interaction dance --sampling_steps 2 {SAMPLE}",
             "people", _in("model", CHECKPOINT)),
    Scenario("train two people", "train.train_in2in",
             f"--save_dir out {TRAIN} --text_layers 1 --text_heads 2 --text_ff_size 16 --warmup_steps 1", "people",
             _in("dataset", (*CORPUS, "train.txt")), weight=0.5),
    Scenario("judge two people", "evaluations.eval_interhuman",
             "--model_path real --dataset in/dataset --evaluator in/judge --replications 1 --device cpu --output_dir out",
             "people", ("judge/config.json", "judge/stats.npz", "dataset/corpus/captions.json"), weight=0.5),
    Scenario("react to a motion", "sample.react",
             "--model_path in/reacts --actor in/actor.npy --no_video --num_repetitions 1 --device cpu --output_dir out", "people",
             ("actor.npy", *_in("reacts", CHECKPOINT))),
    Scenario("edit a motion", "sample.edit",
             "in/joints.npy --edit crouch --model_path in/poses --no_video --device cpu --output_dir out", "poses",
             ("joints.npy", *_in("poses", CHECKPOINT)), weight=0.5),
    Scenario("dress a motion", "visualize.render_mesh",
             "--input_path in/joints.npy --body_model in/body --fitting_steps 2 --device cpu --output_dir out", "bodies",
             ("joints.npy", "body/SMPL_NEUTRAL.pkl"), weight=1.5),
    Scenario("dress a motion of a run", "visualize.render_mesh",
             "--input_path in/prompt00_rep00.mp4 --body_model in/body/male --fitting_steps 2 --device cpu --gender male "
             "--output_dir out",
             "bodies", ("motions.npz", "body/male/model.npz")),
    Scenario("train reactions", "train.train_reaction",
             f"--save_dir out {TRAIN} --encoder_dim 8 --encoder_layers 1 --encoder_ff_size 8 --num_atomic_actions 4", "people",
             _in("dataset", (*CORPUS, "train.txt")), weight=0.5),
    Scenario("judge reactions", "evaluations.eval_interhuman",
             "--task reaction --samples 1 --dataset in/dataset --evaluator in/judge --device cpu --output_dir out",
             "people", ("judge/config.json", "dataset/corpus/features.npy", "dataset/train.txt"), weight=0.3),
    Scenario("judge parts of a reaction model", "evaluations.eval_ablations",
             "--model_paths in/reacts --samples 1 --dataset in/dataset --evaluator in/judge --device cpu --output_dir out",
             "people", ("reacts/config.json", "reacts/stats.npz", "dataset/test.txt"), weight=0.3),
    Scenario("sample over tokens", "sample.sample", f"--model_path in/tokens --text_prompt walk {SAMPLE}", "tokens",
             (*_in("tokens", CHECKPOINT), *_in("tokens/parts/base", ("config.json",)),
              *_in("tokens/parts/base/parts/tokenizer", CHECKPOINT))),
    Scenario("caption a motion", "sample.caption",
             "in/joints.npy --model_path in/captioner --max_new_tokens 2 --beams 1 --device cpu --output out/said.json",
             "captioner", ("joints.npy", *_in("captioner", CHECKPOINT), "captioner/parts/lamp/config.json")),
    Scenario("complete a motion", "sample.edit",
             "in/joints.npy --keep prefix --text_prompt walk --model_path in/tokens --no_video --device cpu "
             "--output_dir out", "poses",
             ("joints.npy", "tokens/config.json"), weight=0.3),
    Scenario("judge edits", "evaluations.eval_edits",
             "--model_path in/poses --dataset in/dataset --clips 1 --only crouch --device cpu --output_dir out", "judged",
             ("dataset/corpus/features.npy", "dataset/test.txt", "poses/config.json"), weight=0.3),
    Scenario("judge cleaning", "evaluations.eval_cleanup", "--model_path in/tokens --dataset in/dataset --evaluator in/evaluator "
             "--num_motions 32 --probe_seeds 1 --only bow --device cpu --output_dir out", "judged",
             ("evaluator/stats.npz", "dataset/corpus/index.json"), weight=0.3),
    Scenario("a board with a captioner", "evaluations.board",
             "--model_paths in/tokens --dataset in/dataset --evaluator in/evaluator --captioner in/captioner "
             "--described_motions 2 --probe_seeds 0 --replications 1 --num_motions 32 --device cpu "
             "--output_dir out", "judged", ("captioner/config.json", "captioner/stats.npz"), weight=0.3),
    Scenario("networks for other programs", "train.export", "--checkpoint in/tmr --onnx out", "motions",
             ("tmr/stats.npz",), weight=0.3),
    Scenario("train a causal autoencoder", "train.train_autoencoder",
             f"--save_dir out {LOOP} --causal --width 8 --latent_channels 4 --fine_width 8 --window_size 8", "people",
             ("dataset/corpus/features.npy", "dataset/corpus/stats.npz"), weight=0.3),
    Scenario("train reactions piece by piece", "train.train_reaction",
             f"--preset online --autoencoder in/autoencoder --save_dir out {TRAIN} --encoder_dim 8 --encoder_layers 1 "
             "--encoder_ff_size 8 --num_atomic_actions 4 --context_len 8 --rollout 2", "people", _in("autoencoder", CHECKPOINT),
             weight=0.3),
    Scenario("what was fetched", "protos.fetch", "kit-ml", "fetched", ("checkpoints/fetched.json",),
             ("checkpoints/fetched.json",), cwd="in"),
)  # fmt: skip


def make_inputs(folder: Path, run: Callable[..., object]) -> None:
    """Small inputs of every scenario below `folder`; `run(module, arguments, folder)` makes those that a command makes."""
    import torch

    from tests.synthetic import POOL_STATISTICS, bvh_text, pool_corpus, raise_hand, walk, write_recordings
    from tests.tiny_retrieval import features_of, saved_tmr

    tmr = saved_tmr(folder / "motions" / "tmr")
    for base in ("gallery", "dataset", "annotated"):
        shutil.copytree(tmr, folder / base / "tmr")
    motions = folder / "motions"
    np.save(motions / "joints.npy", walk(60).astype(np.float32))
    np.save(motions / "features.npy", features_of(walk(60)))
    (motions / "take.bvh").write_text(bvh_text(walk(60, fps=30.0)))
    (motions / "prompts.txt").write_text("a person walks\na person bows\n")

    write_recordings(folder / "recordings", copies=3)
    run("data_loaders.prepare", "bandai_namco --input recordings --output dataset/dataset --workers 1 --no_mirror", folder)
    raw = folder / "raw" / "raw"
    raw.mkdir(parents=True)
    for name in "abc":
        (raw / f"{name}.bvh").write_text(bvh_text(walk(50, fps=30.0) if name != "b" else raise_hand(50)))
    captions = {"a": {"captions": ["a person walks"], "labels": {"content": "walk"}},
                "c": {"captions": ["someone walks"], "split": "test", "first_frame": 0}}  # fmt: skip
    (raw / "captions.json").write_text(json.dumps({"clips": captions}))
    (raw / "b.txt").write_text("a person raises the left hand\nlifting an arm\n")
    (raw / "train.txt").write_text("a\nb\n")
    mapping = Path(__file__).resolve().parents[2] / "data_loaders" / "mappings" / "bandai_namco.toml"
    shutil.copy(mapping, folder / "raw" / "map.toml")
    shutil.copytree(folder / "raw", folder / "again" / "in")  # the same paths as when the command is run again
    run("data_loaders.prepare", next(each.arguments for each in SCENARIOS if each.base == "made"), folder / "again")
    (folder / "again" / "in").rename(folder / "made")
    clips = folder / "clips" / "clips"
    clips.mkdir(parents=True)
    for name, joints in (("a", walk(50)), ("b", raise_hand(50))):
        np.save(clips / f"{name}.npy", joints.astype(np.float32))
        (clips / f"{name}.txt").write_text("a person moves\n")
    (clips / "train.txt").write_text("a\nb\n")
    official = folder / "official" / "official"
    (official / "texts").mkdir(parents=True)
    (official / "new_joint_vecs").mkdir()
    for i in (1, 2, 3):
        np.save(official / "new_joint_vecs" / f"{i:06d}.npy", features_of(walk(40 + i), "published"))
        (official / "texts" / f"{i:06d}.txt").write_text("a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n")
    for split in ("train", "val", "test"):
        (official / f"{split}.txt").write_text("000001\n000002\n000003\n")
    np.save(official / "Mean.npy", np.zeros(263, np.float32))
    np.save(official / "Std.npy", np.ones(263, np.float32))

    train = TRAIN.replace("in/dataset", "dataset/dataset")
    run("train.train_lsremgm", f"--save_dir run/run {train} --diffusion_steps 4", folder)
    shutil.copytree(folder / "dataset" / "dataset", folder / "run" / "dataset")
    shutil.copytree(folder / "run" / "run" / "step_000000002", folder / "model" / "model")
    (folder / "model" / "model" / "training_state.pt").unlink()
    (folder / "model" / "model" / "manifest.json").unlink(missing_ok=True)
    run("train.export", "--checkpoint run/run/step_000000002 --output exported", folder)
    shutil.rmtree(folder / "model" / "model")
    shutil.move(folder / "exported", folder / "model" / "model")
    shutil.copytree(folder / "model", folder / "prompts")
    (folder / "prompts" / "prompts.txt").write_text("a person walks#20\nsomeone waves\n")
    (folder / "prompts" / "timeline.txt").write_text("a person walks # 1\nwaves the left hand # 0 # 1\na person bows # 2\n")
    run("sample.sample", "--model_path model/model --text_prompt walk --no_video --num_repetitions 1 --motion_length 2 "
        "--device cpu --output_dir made_motions", folder)  # fmt: skip
    for name in ("motions.npz", "motions.npy"):
        shutil.copy(folder / "made_motions" / name, motions / name)

    gallery = folder / "gallery"
    for name, joints in (("library/walk", walk(60)), ("library/hand", raise_hand(60)), ("more/a", walk(40, 1.5))):
        (gallery / name).parent.mkdir(exist_ok=True)
        np.save(gallery / f"{name}.npy", joints.astype(np.float32))
    (gallery / "library" / "walk.txt").write_text("a person walks\n")
    run("sample.retrieve", "encode_dataset --model_path tmr --motions library --gallery gallery", gallery)

    judged = folder / "judged"
    pool_corpus(judged / "dataset")
    _evaluator(judged / "evaluator", POOL_STATISTICS)
    (judged / "clips").mkdir()
    for i in range(33):
        np.save(judged / "clips" / f"{i:03d}.npy", walk(44 + i, 0.5 + 0.02 * i).astype(np.float32))
        (judged / "clips" / f"{i:03d}.txt").write_text(f"a person walks, number {i}\n")
    run("data_loaders.annotations", "dataset --dataset dataset/dataset --output annotated/datasets/annotations/x", folder)
    for name in ("generated", "reference"):
        (folder / "pairs" / name).mkdir(parents=True)
        for clip in "ab":
            np.save(folder / "pairs" / name / f"{clip}.npy", walk(40)[:, :21].astype(np.float32))
    _two_people(folder)
    _tokens(folder)
    _bodies(folder / "bodies")
    fetched = {"kit-ml": {"a.npy": {"size": 1, "sha256": "0", "first_seen": "day 1"}}}
    for place, content in (("checkpoints/fetched.json", json.dumps(fetched)), ("dataset/KIT-ML/a.npy", "")):
        (folder / "fetched" / place).parent.mkdir(parents=True)
        (folder / "fetched" / place).write_text(content)
    torch.set_num_threads(1)


def _two_people(folder: Path) -> None:
    from data_loaders.corpus import Corpus
    from tests.pairs import greeting, pair_corpus, write_interhuman, write_takes
    from tests.tiny_people import tiny_causal_autoencoder, tiny_in2in, tiny_interclip, tiny_reaction

    write_takes(folder / "takes" / "takes", {f"take{i}": greeting(40 + 6 * i) for i in range(3)})
    write_interhuman(folder / "InterHuman" / "InterHuman")
    people = folder / "people"
    corpus = Corpus(pair_corpus(people / "dataset"))
    tiny_interclip(people / "judge")
    tiny_in2in(people / "model", corpus)
    tiny_reaction(people / "reacts")
    tiny_causal_autoencoder(people / "autoencoder")
    np.save(people / "actor.npy", greeting(40)[0].astype(np.float32))


def _tokens(folder: Path) -> None:
    from tests.synthetic import walk
    from tests.tiny_pgr2m import tiny_refiner
    from tests.tiny_tokens import saved, tiny_captioner, tiny_residual, tiny_transformer

    saved(folder / "tokens" / "tokens", tiny_residual())
    for base in ("captioner", "judged"):
        saved(folder / base / "captioner", tiny_captioner())
    for base in ("poses", "judged"):
        saved(folder / base / "poses", tiny_refiner())
        saved(folder / base / "tokens", tiny_transformer())
    for name in ("captioner", "poses"):
        np.save(folder / name / "joints.npy", walk(40).astype(np.float32))


def _bodies(folder: Path) -> None:
    from tests.synthetic import walk, write_run
    from tests.synthetic_bodies import write_old_pickle, write_smpl

    write_old_pickle(folder / "body" / "SMPL_NEUTRAL.pkl")
    write_smpl(folder / "body" / "male" / "model.npz")
    write_run(folder, [walk(20)], ["a person walks"])
    np.save(folder / "joints.npy", walk(20).astype(np.float32))


def _evaluator(folder: Path, statistics: object) -> None:
    from model.checkpoints import save_pretrained
    from model.evaluator_config import EvaluatorConfig
    from model.evaluators import GuoEvaluator

    config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8,
                             words="minilm", word_dim=384, pos_dim=0, features=Features(heading="continuous"))  # fmt: skip
    save_pretrained(folder, GuoEvaluator(config, statistics))

"""Small inputs of every scenario."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_loaders.features import Features
from tests.attack.scenarios import JUDGE, SCENARIOS, TRAIN


def make_inputs(folder: Path, run: Callable[..., object]) -> None:
    """Small inputs of every scenario below `folder`; `run(module, arguments, folder)` makes those that a command makes."""
    import torch

    from data_loaders.known_datasets import DESCRIPTIONS
    from tests.synthetic import POOL_STATISTICS, bvh_text, pool_corpus, raise_hand, walk, write_recordings, write_vocabulary
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
    _published(folder / "published")
    _annotations(folder / "annotating")
    _saved_texts(folder / "annotated" / "datasets" / "annotations" / "x")
    for name in ("json", "txt"):
        _captions(judged / f"said.{name}")
    shutil.copytree(judged, folder / "judging" / "in")
    run("evaluations.eval_humanml", JUDGE, folder / "judging")
    (folder / "judging" / "in").rename(folder / "again_judged")
    write_recordings(folder / "described" / "recordings", copies=3)
    shutil.copy(DESCRIPTIONS / "bandai_namco.toml", folder / "described" / "mine.toml")
    shutil.copytree(folder / "dataset" / "dataset", folder / "vectors" / "dataset")
    write_vocabulary(folder / "vectors" / "checkpoints" / "official" / "glove", "walk/VERB", "person/NOUN")
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
    from tests.synthetic_bodies import write_amass, write_old_pickle, write_smpl

    folder.mkdir(parents=True, exist_ok=True)
    write_amass(folder / "take.npz")
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


def _published(folder: Path) -> None:
    """Weights as MDM publishes them, of a model that reads no text, and the statistics that it takes from a dataset."""
    from tests.published_weights import ARGS, published

    published(folder / "published", {**ARGS, "unconstrained": True, "cond_mask_prob": 0})
    (folder / "dataset" / "HumanML3D").mkdir(parents=True)
    np.save(folder / "dataset" / "HumanML3D" / "Mean.npy", np.zeros(263, np.float32))
    np.save(folder / "dataset" / "HumanML3D" / "Std.npy", np.full(263, 0.1, np.float32))


def _annotations(folder: Path) -> None:
    """HumanML3D's index and BABEL's labels of a file each."""
    from tests.synthetic import walk

    (folder / "humanml3d" / "texts").mkdir(parents=True)
    (folder / "motions" / "KIT" / "3").mkdir(parents=True)
    (folder / "babel").mkdir()
    np.save(folder / "motions" / "KIT" / "3" / "walk_poses.npy", walk(120).astype(np.float32))
    index = "source_path,start_frame,end_frame,new_name\n" + "".join(
        f"./pose_data/KIT/3/walk_poses.npy,20,{stop},{name}.npy\n" for stop, name in ((100, "000001"), (90, "000002")))
    (folder / "humanml3d" / "index.csv").write_text(index)
    for name in ("000001", "000002"):
        (folder / "humanml3d" / "texts" / f"{name}.txt").write_text("a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n")
    (folder / "humanml3d" / "train.txt").write_text("000001\n000002\n")
    label = {"raw_label": "walk", "proc_label": "walk", "act_cat": ["walk"], "seg_id": "u1"}
    for split, number in (("train", "7"), ("val", "8")):
        babel = {number: {"babel_sid": int(number), "feat_p": "KIT/KIT/3/walk_poses.npz", "dur": 6.0,
                          "seq_ann": {"labels": [label]}, "frame_ann": None}}  # fmt: skip
        (folder / "babel" / f"{split}.json").write_text(json.dumps(babel))


def _saved_texts(annotations: Path) -> None:
    """What mpnet might have made of the texts of a folder with annotations.json, beside it."""
    from model.text_encoders import SENTENCES
    from model.text_towers import TOWERS
    from tests.saved_texts import write_text_features

    content = json.loads((annotations / "annotations.json").read_text())
    texts = dict.fromkeys(each["text"] for entry in content.values() for each in entry["annotations"])
    array = np.random.default_rng(0).normal(size=(len(texts), TOWERS["mpnet"].dim)).astype(np.float32)
    write_text_features(annotations / SENTENCES / TOWERS["mpnet"].repository, array, {text: i for i, text in enumerate(texts)})


def _captions(path: Path) -> None:
    """A caption of each motion of `pool_corpus`, in either form."""
    from tests.synthetic import pool_motion

    said = {f"{i:03d}": pool_motion(i)[1] for i in range(40)}
    lines = "".join(f"{name}\t{text}\n" for name, text in said.items())
    path.write_text(json.dumps(said) if path.suffix == ".json" else lines)

"""Commands and the files they read: each file is attacked while the others stay whole."""

from dataclasses import dataclass


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
JUDGE = ("--motions in/clips --dataset in/dataset --evaluator in/evaluator --replications 1 --device cpu "
         "--output_dir in/report")  # fmt: skip
DESCRIBED = "--dataset in/dataset --evaluator in/evaluator --replications 1 --device cpu --output_dir out"
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
    Scenario("sample with a sketch of captions", "sample.sample", f"--model_path in/model --text_prompt walk {SAMPLE}", "model",
             ("model/known_texts.npz",), weight=0.5),
    Scenario("sample published weights", "sample.sample", f"--model_path published --num_samples 1 --text_prompt walk {SAMPLE}",
             "published", ("published/args.json", "published/model000100000.pt", "dataset/HumanML3D/Mean.npy"), ("out",),
             cwd="in"),
    Scenario("judge given captions", "evaluations.eval_m2t",
             f"--captions in/said.json {DESCRIBED}",
             "judged", ("said.json",), weight=0.5),
    Scenario("judge captions of a text file", "evaluations.eval_m2t",
             f"--captions in/said.txt {DESCRIBED}",
             "judged", ("said.txt",), weight=0.3),
    Scenario("judge on", "evaluations.eval_humanml", JUDGE.replace("--replications 1", "--replications 2"), "again_judged",
             ("report/settings.json", "report/*/[0-9]*.json", "report/manifest.json"), ("report",), weight=0.5),
    Scenario("a board of reports", "evaluations.board", "--reports in/report --output_dir out --model_paths", "again_judged",
             ("report/report.json",), weight=0.5),
    Scenario("prepare what a file describes", "data_loaders.prepare",
             "in/mine.toml --input in/recordings --output out --workers 1 --no_mirror", "described",
             ("mine.toml", "recordings/captions.json")),
    Scenario("annotations of HumanML3D", "data_loaders.annotations",
             "humanml3d --input in/humanml3d --motions in/motions --output out/x", "annotating",
             ("humanml3d/index.csv", "humanml3d/texts/000001.txt")),
    Scenario("annotations of BABEL", "data_loaders.annotations", "babel --input in/babel --output out/x", "annotating",
             ("babel/train.json",)),
    Scenario("texts that are saved", "evaluations.eval_retrieval",
             f"{TMR} --dataset in/datasets/annotations/x --protocol threshold --output_dir out", "annotated",
             _in("datasets/annotations/x/sent_embeddings/sentence-transformers", ("all-mpnet-base-v2.npy",
                                                                                "all-mpnet-base-v2_index.json")),
             ("datasets/annotations/x", "datasets/stats", "datasets/motions")),
    Scenario("word vectors", "train.train_length_estimator",
             f"--save_dir out {LOOP.replace('in/', '')} --words glove --hidden 8", "vectors",
             _in("checkpoints/official/glove", ("our_vab_data.npy", "our_vab_words.pkl", "our_vab_idx.pkl")), ("out",), cwd="in"),
    Scenario("render poses", "visualize.render", "in/take.npz --body_model in/body --format bvh --output_dir out", "bodies",
             ("take.npz",)),
    Scenario("what was fetched", "protos.fetch", "kit-ml", "fetched", ("checkpoints/fetched.json",),
             ("checkpoints/fetched.json",), cwd="in"),
)  # fmt: skip

"""The demo's interface in gradio: which control asks `demo_service` for what, and where the answer is shown."""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from data_loaders.corpus import Motion
from model.capabilities import Guidance
from protos.confined import Confined
from sample.demo_captions import Describer
from sample.demo_guard import Guard
from sample.demo_maker import MOST_MOTIONS, STRONGEST_GUIDANCE, Maker, UploadReading, write_downloads
from sample.demo_pages import STYLE, hits_page, player, said
from sample.demo_service import ALL, AUTO, LONGEST_PROMPT, MOST_HITS, SKELETONS, SUFFIXES, UPLOADS_AT_ONCE, Finder, told

log = logging.getLogger(__name__)
AT_ONCE = 2  # requests; the others wait in the queue
KEPT = 3600  # seconds that a file may be downloaded
PROMPTS = {
    1: ("a person walks forward", "a person waves the right hand", "someone bows politely", "a tired person walks slowly"),
    2: ("two people dance salsa", "one person spins while the other claps", "two people walk past each other"),
}
EDITS = ("raise the left arm higher between 1s and 2s", "bend both knees more; keep the arms", "slower; mirror",
         "put the right hand above the right shoulder")
ASKED = {1: "What does the person do?", 2: "What do the two do together?"}
FILES = "Video, page, joints, files for other programs"
LAYOUT = """
.gradio-container { max-width: 1240px !important; margin: 0 auto; }
.gradio-container .html-container { padding: 10px 0 !important; }
.downloads .empty { min-height: 56px !important; }
"""
SYSTEM_FONTS = ["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "DejaVu Sans", "sans-serif"]
ONE = {"concurrency_limit": AT_ONCE, "concurrency_id": "work"}
UPLOADS = {"concurrency_limit": UPLOADS_AT_ONCE, "concurrency_id": "uploads"}  # a file that takes long delays files alone
MORE = 100_000  # bytes of a request beside the file in it


def in_one_line(work: Callable) -> Callable:
    """What goes wrong in a handler, as a line for the visitor; what nobody foresaw is told to the log alone."""

    @wraps(work)
    def safe(*inputs):
        try:
            return work(*inputs)
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            raise gr.Error(told(error), print_exception=False) from None
        except Exception:
            log.exception("a request failed")
            raise gr.Error("this went wrong here; the log of the server says how", print_exception=False) from None

    return safe


def build(search: Finder | None, maker: Maker | None, scratch: Path, describer: Describer | None = None) -> gr.Blocks:
    """The page. Files that are being made lie in `scratch`, in a folder for each request that goes with it."""
    with gr.Blocks(title="Motion and language", analytics_enabled=False, delete_cache=(600, KEPT)) as app, gr.Tabs():
        if search is not None:
            with gr.Tab("Search"):
                search_tab(search)
        for title, persons in (("Generate", 1), ("Two people", 2)):
            if maker is not None and maker.of_persons(persons):
                with gr.Tab(title):
                    generate_tab(maker, scratch, persons)
        if maker is not None and maker.reacting():
            with gr.Tab("Reaction"):
                reaction_tab(maker, scratch)
        if maker is not None and maker.editing():
            with gr.Tab("Edit"):
                edit_tab(maker, scratch)
        if describer is not None:
            with gr.Tab("Caption"):
                caption_tab(describer)
    return app


def search_tab(search: Finder) -> None:
    splits = {f"{ALL} ({len(search.gallery)})": ALL}
    splits |= {f"{name} ({int(rows.sum())})": name for name, rows in search.splits.items()}

    @in_one_line
    def by_text(text: str, count: int, split: str) -> str:
        return hits_page(search.by_text(text, count, split))

    @in_one_line
    def by_file(file: str | None, count: int, split: str, skeleton: str, fps: float, start: float) -> str:
        if file is None:
            raise ValueError(f"drop a motion file first ({' or '.join(SUFFIXES)})")
        return hits_page(search.by_file(Path(file), count, split, skeleton, fps, start))

    with gr.Row():
        with gr.Column(scale=3):
            text = gr.Textbox(label="What does the person do?", placeholder="a person walks in a circle", lines=1,
                              max_length=LONGEST_PROMPT)  # fmt: skip
            examples = search.examples()
            if examples:
                gr.Examples([[each] for each in examples], [text], label="For example")
            ask = gr.Button("Search", variant="primary")
        with gr.Column(scale=2):
            file = motion_file("Or more like this motion", search.max_upload)
            with gr.Accordion("How to read the file", open=False):
                reading = how_to_read(search.space.features.fps)
                again = gr.Button("Search by this file")
    with gr.Row():
        count = gr.Slider(1, MOST_HITS, 6, step=1, label="Hits", min_width=140)
        split = gr.Dropdown(list(splits.items()), value=ALL, label="Split", visible=len(splits) > 1, min_width=140)
    shown = gr.HTML(said("Hits play here; drag a figure to turn it."), apply_default_css=False, js_on_load=None, min_height=60)
    gr.on([text.submit, ask.click], by_text, [text, count, split], shown, api_name="search_text", **ONE)
    of_file = [file, count, split, *reading]
    gr.on([file.upload, again.click], by_file, of_file, shown, api_name="search_file", **UPLOADS)


def motion_file(label: str, most: float) -> gr.File:
    """Where a motion file of at most `most` MB is dropped."""
    file = gr.File(label=f"{label}: {' or '.join(SUFFIXES)}, at most {most:g} MB", file_types=list(SUFFIXES), height=170)
    file.async_move_resource_to_block_cache = only_uploads(file.async_move_resource_to_block_cache)
    return file


def how_to_read(fps: float) -> list[gr.components.Component]:
    """Skeleton, frame rate and start of a motion file."""
    return [
        gr.Dropdown(list(SKELETONS), value=AUTO, label="Joint names of a .bvh file"),
        gr.Number(fps, minimum=1, maximum=1000, label="Frames per second of joints in a .npy file"),
        gr.Number(0, minimum=0, label="Start, seconds"),
    ]


def only_uploads(move: Callable) -> Callable:
    """gradio would fetch a file that is named by its URL; a visitor must not send this machine to other ones."""

    async def refuse_links(path: str | Path | None) -> str | None:
        if path is not None and not Path(path).is_file():
            raise gr.Error("upload a file: links are not followed", print_exception=False)
        return await move(path)

    return refuse_links


def generate_tab(maker: Maker, scratch: Path, persons: int) -> None:
    """Text to motion of one person, or of two with a text about each."""
    checkpoints, prompts = maker.of_persons(persons), PROMPTS[persons]
    first, chosen = next(iter(checkpoints.items()))

    @in_one_line
    def make(prompt: str, seconds: float, seed: float, count: int, guidance: float, name: str,
             *individuals: str) -> tuple[list, int, str]:  # fmt: skip
        motions = maker.make(prompt, seconds, seed, count, guidance, name, individuals)
        return motions, int(seed), maker.outside(prompt, name)

    def answer(*inputs) -> Iterator[tuple]:
        motions, seed, outside = make(*inputs)
        yield from shown_and_written(motions, seed, scratch, outside)

    def settings(name: str) -> Sequence[dict]:
        known = checkpoints[name]
        return (gr.update(maximum=round(known.seconds, 1), value=min(6.0, round(known.seconds, 1))),
                gr.update(value=known.guidance or 1.0, interactive=known.guidance is not None))  # fmt: skip

    with gr.Row():
        with gr.Column(scale=3):
            prompt = gr.Textbox(label=ASKED[persons], placeholder=prompts[0], lines=2, max_length=LONGEST_PROMPT)
            each = [
                gr.Textbox(label=f"And person {person} (may stay empty)", lines=1, max_length=LONGEST_PROMPT)
                for person in range(1, persons + 1) if persons > 1
            ]  # fmt: skip
            gr.Examples([[text] for text in prompts], [prompt], label="For example")
            ask = gr.Button("Generate", variant="primary")
        with gr.Column(scale=2):
            with gr.Row():
                seconds = gr.Slider(0.5, round(chosen.seconds, 1), min(6.0, chosen.seconds), step=0.1, label="Seconds",
                                    min_width=140)  # fmt: skip
                count = gr.Slider(1, MOST_MOTIONS, 1, step=1, label="Motions", min_width=140)
            with gr.Row():
                guidance = gr.Slider(0, STRONGEST_GUIDANCE, chosen.guidance or 1.0, step=0.1, label="Guidance", min_width=140,
                                     interactive=chosen.guidance is not None)  # fmt: skip
                seed = gr.Number(10, minimum=0, maximum=2**31 - 1, precision=0, label="Seed", min_width=140)
            name = gr.Dropdown(list(checkpoints), value=first, label="Checkpoint", visible=len(checkpoints) > 1)
    shown = gr.HTML(said("The motion plays here."), apply_default_css=False, js_on_load=None, min_height=60)
    files = gr.File(label=FILES, file_count="multiple", interactive=False, elem_classes="downloads")
    given = [prompt, seconds, seed, count, guidance, name, *each]
    gr.on([prompt.submit, ask.click], answer, given, [shown, files], api_name="generate" if persons == 1 else "interact", **ONE)
    name.change(settings, name, [seconds, guidance], api_name=False, queue=False)


def shown_and_written(motions: Sequence[Motion], seed: int, scratch: Path, outside: str = "") -> Iterator[tuple]:
    """(page, files) of motions, once; a line above them says what is `outside` of what a checkpoint knows."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        files = in_one_line(write_downloads)(Path(folder), motions, seed)
        page = (said(outside) if outside else "") + player(motions)
        yield page, list(map(str, files))  # gradio has copied them when it asks for more


def reaction_tab(maker: Maker, scratch: Path) -> None:
    """A motion to what somebody else does in answer to it."""
    checkpoints = maker.reacting()
    first, chosen = next(iter(checkpoints.items()))

    @in_one_line
    def make(file: str | None, prompt: str, skeleton: str, fps: float, start: float, seed: float, count: int, by_action: float,
             by_text: float, name: str) -> tuple[list, int, str]:  # fmt: skip
        if file is None:
            raise ValueError(f"drop the motion of the one who acts first ({' or '.join(SUFFIXES)})")
        strengths, reading = Guidance(by_text, action=by_action), UploadReading(skeleton, fps, start)
        motions = maker.react(Path(file), prompt, seed, count, strengths, name, reading)
        return motions, int(seed), maker.outside(prompt, name) if prompt.strip() else ""

    def answer(*inputs) -> Iterator[tuple]:
        motions, seed, outside = make(*inputs)
        yield from shown_and_written(motions, seed, scratch, outside)

    def settings(name: str) -> Sequence[dict]:
        known = checkpoints[name]
        return gr.update(value=known.by_action), gr.update(value=known.guidance or 1.0)

    with gr.Row():
        with gr.Column(scale=3):
            file = motion_file("What does the one who acts do", maker.max_upload)
            prompt = gr.Textbox(label="What do the two do together? (may stay empty)", placeholder=PROMPTS[2][0], lines=1,
                                max_length=LONGEST_PROMPT)  # fmt: skip
            ask = gr.Button("React", variant="primary")
        with gr.Column(scale=2):
            with gr.Row():
                by_action, by_text = (
                    gr.Slider(0, STRONGEST_GUIDANCE, value, step=0.1, label=label, min_width=140)
                    for label, value in (("Guidance by the action", chosen.by_action), ("By the text", chosen.guidance or 1.0))
                )
            with gr.Row():
                count = gr.Slider(1, MOST_MOTIONS, 2, step=1, label="Reactions", min_width=140)
                seed = gr.Number(10, minimum=0, maximum=2**31 - 1, precision=0, label="Seed", min_width=140)
            name = gr.Dropdown(list(checkpoints), value=first, label="Checkpoint", visible=len(checkpoints) > 1)
            with gr.Accordion("How to read the file", open=False):
                reading = how_to_read(30)
    shown = gr.HTML(said("Both people play here, in one world."), apply_default_css=False, js_on_load=None, min_height=60)
    files = gr.File(label=FILES, file_count="multiple", interactive=False, elem_classes="downloads")
    given = [file, prompt, *reading, seed, count, by_action, by_text, name]
    gr.on([prompt.submit, ask.click], answer, given, [shown, files], api_name="react", **UPLOADS)
    name.change(settings, name, [by_action, by_text], api_name=False, queue=False)


def edit_tab(maker: Maker, scratch: Path) -> None:
    """A motion beside the same changed in words."""
    checkpoints = maker.editing()

    @in_one_line
    def make(file: str | None, edits: str, skeleton: str, fps: float, start: float, seed: float,
             name: str) -> tuple[list, int, str]:  # fmt: skip
        if file is None:
            raise ValueError(f"drop the motion that is to be edited first ({' or '.join(SUFFIXES)})")
        motions, lines = maker.edit(Path(file), edits, seed, 1, name, UploadReading(skeleton, fps, start))
        return motions, int(seed), lines

    def answer(*inputs) -> Iterator[tuple]:
        motions, seed, lines = make(*inputs)
        for page, files in shown_and_written(motions, seed, scratch):
            yield page, files, lines

    with gr.Row():
        with gr.Column(scale=3):
            file = motion_file("Which motion", maker.max_upload)
            edits = gr.Textbox(label="What becomes of which part, when?", placeholder=EDITS[0], lines=2,
                               max_length=LONGEST_PROMPT)  # fmt: skip
            gr.Examples([[text] for text in EDITS], [edits], label="For example")
            ask = gr.Button("Edit", variant="primary")
        with gr.Column(scale=2):
            seed = gr.Number(10, minimum=0, maximum=2**31 - 1, precision=0, label="Seed", min_width=140)
            name = gr.Dropdown(list(checkpoints), label="Checkpoint", visible=len(checkpoints) > 1)
            with gr.Accordion("How to read the file", open=False):
                reading = how_to_read(20)
            lines = gr.Textbox(label="What becomes of the poses", lines=6, interactive=False)
    shown = gr.HTML(said("The motion and what is made of it play here, side by side."), apply_default_css=False, js_on_load=None,
                    min_height=60)  # fmt: skip
    files = gr.File(label=FILES, file_count="multiple", interactive=False, elem_classes="downloads")
    given = [file, edits, *reading, seed, name]
    gr.on([edits.submit, ask.click], answer, given, [shown, files, lines], api_name="edit", **UPLOADS)


def caption_tab(describer: Describer) -> None:
    """A motion to what it shows, in words."""

    @in_one_line
    def say(file: str | None, skeleton: str, fps: float, start: float, name: str) -> tuple[str, str]:
        if file is None:
            raise ValueError(f"drop the motion that is to be described first ({' or '.join(SUFFIXES)})")
        found = describer.caption(Path(file), name, UploadReading(skeleton, fps, start))
        return found.lines(), player([found.motion])

    names = list(describer.checkpoints)
    with gr.Row():
        with gr.Column(scale=3):
            file = motion_file("Which motion", describer.max_upload)
            ask = gr.Button("Describe", variant="primary")
        with gr.Column(scale=2):
            lines = gr.Textbox(label="What it shows", lines=3, interactive=False)
            name = gr.Dropdown(names, value=names[0], label="Checkpoint", visible=len(names) > 1)
            with gr.Accordion("How to read the file", open=False):
                reading = how_to_read(20)
    shown = gr.HTML(said("The motion plays here."), apply_default_css=False, js_on_load=None, min_height=60)
    gr.on([file.upload, ask.click], say, [file, *reading, name], [lines, shown], api_name="caption", **UPLOADS)


def readers_of(search: Finder | None, maker: Maker | None, describer: Describer | None) -> list[Confined]:
    """What reads files of visitors, where there is a use for it."""
    readers = [] if search is None else [search.read_upload]
    readers += [maker.read_actor] if maker is not None and (maker.reacting() or maker.editing()) else []
    return readers + ([] if describer is None else [describer.read_actor])


def serve(
    app: gr.Blocks, readers: Sequence[Confined], folder: Path, host: str, port: int, queue: int, max_upload: float
) -> None:
    """Until the process is told to end; its temporary files lie in `folder`. queue: requests that may wait. max_upload: MB."""
    for name in ("uploads", "requests"):
        (folder / name).mkdir(exist_ok=True)
    for reader in readers:
        reader.scratch = folder
        reader.warm()
    app.queue(max_size=queue, default_concurrency_limit=AT_ONCE)
    most = int(max_upload * 1e6)
    guard = Middleware(Guard, host=host, most=most + MORE, uploads=folder / "uploads")
    # the theme's own fonts would come from a network
    theme = gr.themes.Default(primary_hue="blue", font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])
    app.launch(
        server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, theme=theme,
        css=STYLE + LAYOUT, max_file_size=most, footer_links=[], run_history=False, ssr_mode=False,
        enable_monitoring=False, mcp_server=False, pwa=False, app_kwargs={"middleware": [guard]},
    )  # fmt: skip
    try:
        log.info("http://%s:%d  (Ctrl-C ends it)", "localhost" if host in ("127.0.0.1", "0.0.0.0") else host, port)
        threading.Event().wait()
    finally:
        app.close(verbose=False)

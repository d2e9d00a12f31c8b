"""python -m sample.react --actor motion.npy --model_path FOLDER: what somebody does in answer to the motion of another."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from data_loaders.sources import Reading
from model.capabilities import Decoding, Guidance
from protos.flags import GUIDANCE
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.exports import RunSettings
from sample.generation import REACTION, DecodingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReactOptions(Reading, RunSettings, DecodingSettings):
    """Make reactions to what somebody does. Joints of both in the actor's world, one video, one page."""

    actor: Path
    """Who acts: .npy joints (T, 22, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW. One person, of any
    frame rate."""
    text_prompt: str | None = None
    """What the two do together, in English (default: the action alone is answered)."""
    model_path: Path = REACTION
    """Checkpoint of train.train_reaction."""
    guidance_reaction: Annotated[float, GUIDANCE] | None = None
    """Strength by which the action is followed (default: the checkpoint's); --guidance_scale is that of the text."""

    def decoding(self, batch_size: int) -> Decoding:
        """The same for the model, with both strengths."""
        plain = super().decoding(batch_size)
        strengths = Guidance(together=self.guidance_scale, action=self.guidance_reaction)
        return plain if strengths == Guidance() else replace(plain, guidance_scale=strengths)


def run(options: ReactOptions) -> None:
    """What cannot be asked for is refused before anything is loaded; a run that fails leaves no folder."""
    from data_loaders.motion_features import read_people
    from model.capabilities import Reacts, Request
    from model.checkpoints import from_pretrained
    from model.precision import in_numbers
    from model.registry import able
    from protos.processes import pick_device
    from sample.generation import clean_prompt, require_total, unknown_prompts, warn_unknown, write_made
    from sample.reactions import actor_of, reactions_to

    text = "" if options.text_prompt is None else clean_prompt(options.text_prompt)
    checkpoint = options.model_path
    model = in_numbers(from_pretrained(checkpoint, pick_device(options.device), systems=able(Reacts)), options.precision)
    features = model.features
    (joints,) = read_people(options.actor, features.body, features.fps, options, persons=1)
    actor = actor_of(joints, features, model.config.max_frames, str(options.actor))
    require_total([len(actor.joints)], options.num_repetitions)
    if text and not model.config.reads_text:
        log.warning("this model reads no text: the prompt changes nothing but the files' names")
    elif text:
        warn_unknown(unknown_prompts(checkpoint, [text], model))
    decoding = options.decoding(options.batch_size)
    write_made(lambda rows: reactions_to(model, actor, rows, decoding), [Request(text, len(actor.joints))], options, checkpoint,
               f"reaction to {options.actor.stem} {text}", features.skeleton, reaction=True)  # fmt: skip


main = command(ReactOptions, run, __doc__, {"action_motion": "actor", "out": "output_dir"}, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)

"""Edits of pose codes: what words ask for, which groups move, what is refused, how replies of a language model land."""

import subprocess
import sys

import pytest
import torch

from data_loaders.edit_grammar import parse_edits
from data_loaders.edit_kinds import Change, Keep, Mirror, Pace, Put, Repeat
from data_loaders.edit_times import Span
from data_loaders.edit_words import FULLY
from data_loaders.pose_code_table import pose_code_table
from data_loaders.pose_codes import indices_from_codes, mirrored_indices, token_codes
from data_loaders.pose_edits import Reply, apply_edits, apply_replies, with_codes
from data_loaders.pose_moves import MOVES, kept_groups, moves_of
from tests.synthetic import raise_hand, walk_in_a_curve

TABLE, FPS, TOKENS = pose_code_table(), 20.0, 25
CODES = token_codes(walk_in_a_curve(100))  # 5 s


def bins(codes: torch.Tensor, key: str) -> list[int]:
    group = TABLE.by_key[key]
    return (indices_from_codes(codes)[:, group.number] - group.first).tolist()


def touched(edited) -> set[str]:
    return {TABLE.groups[number].key for number in edited.touched.any(0).nonzero()[:, 0].tolist()}


def edit(text: str, codes: torch.Tensor = CODES, **settings):
    return apply_edits(codes, parse_edits(text), FPS, **settings)


def test_clauses_are_typed_edits_in_their_order():
    raised, bent, slower, mirror, repeat, keep = parse_edits(
        "raise the left arm higher between 2s and 4s; bend the right knee more until 3s; slower; mirror; "
        "repeat 2 times; keep the legs")
    assert isinstance(raised, Change) and raised.attribute == "height" and raised.sign == 1
    assert [part.side + part.name for part in raised.parts] == ["leftarm"] and (raised.span.start, raised.span.stop) == (2, 4)
    assert bent.attribute == "bend" and (bent.span.start, bent.span.stop) == (None, 3)
    assert isinstance(slower, Pace) and slower.factor == 1.5 and isinstance(mirror, Mirror)
    assert isinstance(repeat, Repeat) and repeat.times == 2 and isinstance(keep, Keep) and len(keep.parts) == 2


@pytest.mark.parametrize(("text", "attribute", "sign", "amount"), [
    ("raise the left arm", "height", 1, 1), ("Lift left hand much higher!", "height", 1, 2),
    ("lower both arms a bit", "height", -1, 0.5),
    ("raise the left arm less", "height", -1, 1), ("bend both arms more deeply", "bend", 1, 1),
    ("straighten the right leg", "bend", -1, 1),
    ("left arm straight", "bend", -1, FULLY), ("bring both hands closer together", "apart", -1, 1),
    ("hands together", "apart", -1, FULLY),
    ("spread the legs wide apart", "apart", 1, 1), ("keep the legs wide apart", "apart", 1, 1),
    ("lean forward slightly", "forward", 1, 0.5),
    ("lean back", "forward", -1, 1), ("move the left hand out to the side", "outward", 1, 1),
    ("left arm to the left", "leftward", 1, 1),
    ("lean to the right", "leftward", -1, 1), ("move the left arm back", "forward", -1, 1), ("crouch", "height", -1, 1),
    ("bend the trunk forward", "forward", 1, 1), ("bend the trunk to the left a lot", "leftward", 1, 2),
    ("lean", "forward", 1, 1),
    ("raise the right knee as far as possible", "height", 1, FULLY), ("move the right hand in front", "forward", 1, 1),
])  # fmt: skip
def test_words_are_attributes_and_how_far(text, attribute, sign, amount):
    (found,) = parse_edits(text)
    assert (found.attribute, found.sign, found.amount) == (attribute, sign, amount)


@pytest.mark.parametrize(("when", "tokens"), [
    ("", (0, 25)), ("between 2s and 4s", (10, 20)), ("from 2 to 4 seconds", (10, 20)), ("until 3s", (0, 15)),
    ("after 3s", (15, 25)),
    ("before 1.5 s", (0, 8)), ("in the last second", (20, 25)), ("in the first 0.4s", (0, 2)), ("at the end", (20, 25)),
    ("at the beginning", (0, 5)), ("at 2s", (10, 11)), ("between frames 8 and 16", (2, 5)), ("frames 8 to 16", (2, 5)),
    ("until frame 40", (0, 11)),
    ("from 20% to 40%", (5, 10)), ("between tokens 3 and 4", (3, 5)), ("from 20 to 40%", (5, 10)),
    ("for the last 20 frames", (20, 25)), ("all the time", (0, 25)), ("up to 1s", (0, 5)), ("from 4s on", (20, 25)),
])  # fmt: skip
def test_times_are_tokens_whose_first_frame_lies_in_them(when, tokens):
    (found,) = parse_edits(f"raise the left arm {when}")
    assert found.span.tokens(TOKENS, FPS) == tokens and found.attribute == "height" and len(found.parts) == 1


def told(edit) -> str:
    """An edit in short: parts, attribute and its sign and amount, towards what; and when."""
    span = edit.span
    when = "" if span.start is span.stop is None else f" {span.start}..{span.stop} {span.unit}"
    if isinstance(edit, Change):
        parts = " ".join(f"{part.side} {part.name}".strip() for part in edit.parts)
        to = f" {edit.towards.side} {edit.towards.name}" if edit.towards else ""
        return f"{parts}: {edit.attribute} {edit.sign * edit.amount:g}{edit.unit}{to}{when}"
    if isinstance(edit, Keep):
        return f"keep {' '.join(f'{part.side} {part.name}'.strip() for part in edit.parts)}{when}"
    if isinstance(edit, Put):
        return f"{TABLE.words(edit.code)}{when}"
    if isinstance(edit, Mirror):
        return f"mirror{when}"
    return (f"x {edit.factor:.3g}" if isinstance(edit, Pace) else f"{edit.times} times") + when


@pytest.mark.parametrize(("text", "edits"), [
    ("bend both knees a little more from 1 to 2 seconds", "left knee right knee: bend 0.5 1.0..2.0 seconds"),
    ("keep the feet where they are", "keep left foot right foot"), ("leave the legs alone", "keep left leg right leg"),
    ("make it twice as slow after the first second", "x 2 1.0..None seconds"), ("slow down the walk a bit", "x 1.2"),
    ("play it at half speed", "x 2"), ("20% slower", "x 1.2"), ("speed it up by 2", "x 0.5"), ("much faster", "x 0.5"),
    ("make the last second slower", "x 1.5 -1.0..None seconds"),
    ("repeat the first second three times", "3 times None..1.0 seconds"),
    ("loop it twice", "2 times"), ("mirror the whole motion", "mirror"), ("flip left and right", "mirror"),
    ("raise your left hand above the head", "left hand: height inf"), ("raise the arm on the left", None),
    ("can you please raise his left arm a lot between one and two seconds?", "left arm: height 2 1.0..2.0 seconds"),
    ("the left arm should be higher", "left arm: height 1"), ("I want the left arm higher", "left arm: height 1"),
    ("the left hand is too low", "left hand: height 1"), ("the knees are bent too much", "left knee right knee: bend -2"),
    ("don't bend the left elbow so much", "left elbow: bend -2"), ("the left knee isn't bent enough", "left knee: bend 1"),
    ("reduce the distance between the hands", "hands: apart -1"), ("widen the stance", "feet: apart 1"),
    ("bend the left knee 30 degrees more", "left knee: bend 30degrees"),
    ("move the hands 20 cm further apart", "hands: apart 20cm"),
    ("touch the left knee with the left hand", "left hand: apart -inf left knee"),
    ("bring the left hand closer to the right knee", "left hand: apart -1 right knee"),
    ("move both hands towards the chest", "left hand: apart -1 left shoulder | right hand: apart -1 right shoulder"),
    ("move the left hand away from the left foot", "left hand: apart 1 left foot"),
    ("hands closer to each other", "hands: apart -1"), ("make the jog slower", "x 1.5"), ("please do it again", "2 times"),
    ("lower both arms to the sides", "left arm right arm: height -1"), ("play the motion 3 times", "3 times"),
    ("the arms stay as they are, bend the knees", "keep left arm right arm | left knee right knee: bend 1"),
    ("left arm up, right arm down", "left arm: height 1 | right arm: height -1"),
    ("keep the hands close together", "hands: apart -inf"), ("keep the right arm lower", "right arm: height -1"),
    ("raise the left arm; then bend the knees", "left arm: height 1 | left knee right knee: bend 1"),
    ("elbows out", "left elbow right elbow: outward 1"), ("stretch the left arm out to the side", "left arm: outward 1"),
    ("raise the left arm to the side", "left arm: height 1 | left arm: outward 1"), ("stand up straighter", "body: height 1"),
    ("bend over at the end", "body: forward 1 -0.2..None share"), ("get lower", "body: height -1"),
    ("bend forward", "body: forward 1"),
    ("lower the hips in the second half", "hips: height -1 0.5..1.0 share"), ("hold the hands in front of the chest",
     "left hand right hand: forward 1"), ("pull the right hand back a bit", "right hand: forward -0.5"),
    ("lift both feet off the floor", "left foot off the ground | right foot off the ground"),
    ("raise both hands to shoulder height", "left hand level with left shoulder | right hand level with right shoulder"),
    ("put the hands above the shoulders", "left hand above left shoulder | right hand above right shoulder"),
    ("raise the left arm and bend the right knee between 1s and 2s",
     "left arm: height 1 1.0..2.0 seconds | right knee: bend 1 1.0..2.0 seconds"),
    ("between 1s and 2s, raise the left arm and bend it a bit",
     "left arm: height 1 1.0..2.0 seconds | left arm: bend 0.5 1.0..2.0 seconds"),
    ("raise the left arm until 2s, then lower it",
     "left arm: height 1 None..2.0 seconds | left arm: height -1 2.0..None seconds"),
    ("raise the left arm from the beginning until 2s and bend the knees from 3s to the end",
     "left arm: height 1 None..2.0 seconds | left knee right knee: bend 1 3.0..None seconds"),
    ("knees bent and arms up", "left knee right knee: bend 1 | left arm right arm: height 1"),
    ("raise and bend the left arm", "left arm: height 1 | left arm: bend 1"),
    ("raise the right arm 1-2s", "right arm: height 1 1.0..2.0 seconds"),
    ("raise the left arm without moving the legs", "left arm: height 1 | keep left leg right leg"),
    ("keep everything below the waist", "keep left leg right leg"), ("raise the left arm. Bend the knees!",
     "left arm: height 1 | left knee right knee: bend 1"),
    ("lean back slightly in the last two seconds", "body: forward -0.5 -2.0..None seconds"),
])  # fmt: skip
def test_what_people_type_is_understood(text, edits):
    if edits is None:
        with pytest.raises(ValueError, match="which arm"):
            parse_edits(text)
    else:
        assert " | ".join(map(told, parse_edits(text))) == edits


def test_a_hand_goes_to_another_part_which_stays():
    found = edit("put the left hand onto the right knee between 1s and 2s")
    assert bins(found.codes, "distance left_hand right_knee")[5:10] == [0] * 5 and found.joints == {"left_elbow", "left_wrist"}


def test_frame_rates_count():
    assert Span(2.0, 4.0).tokens(25, 12.5) == (6, 13)


@pytest.mark.parametrize(("text", "said"), [
    ("raise the left arm between 2s and 9s", "the clip has 5 seconds, 100 frames; the time lies outside"),
    ("raise the left arm after 5s", "lies outside"), ("slower from 4s to 2s", "ends before it begins"),
    ("mirror in the last 9s", "lies outside"), ("keep the legs until frame 400", "lies outside"),
    ("raise the left arm from 2s to 40%", "one unit"),
    ("raise the left hant", "'hant' is not understood (near: hand"), ("rais the left hand", "near: raise"),
    ("raise the left wing", "parts are left or right arm"), ("wiggle", "changes apart, bend, forward, height"),
    ("raise the arm", "which arm? Say left arm, right arm, or arms"), ("raise it", "names no part of the body"),
    ("move the left arm", "does not say what to do"), ("raise and lower the left arm", "contradict"),
    ("spread the left arm", "said of two: arms, elbows, feet"), ("bend the left arm together", "said of two"),
    ("move the trunk outward", "of trunk there is no outward; there is backward, bend, forward, height"),
    ("left hand above the belly", "no code says so (near: left hand above"),
    ('set "L-elbow angel 3"', "near: L-elbow angle 3"), ("bend the left knee to 50 cm", "is not told in cm"),
    ("keep the legs and bend the right knee", "contradict"), ("knees bent left arm up", "several changes at once, bent and up"),
    ("raise the left arm, then lower it", "until when, and what then?"), ("raise the left arm 3", "what is 3?"),
    ("raise the left arm by 99999999999 steps", "too much"), ("mirror the left arm", "all of the body"),
    ("left knee straight; bend the left knee", "contradict"),
    ("bend the left knee by 30 degrees; left knee straight", "contradict"),
    ("bend the left knee to at least 150 degrees; bend the left knee to at most 90 degrees", "contradict"),
    ("raise the left arm to 3", "to 3 of what"), ("slower by 99", "99 times, expected more than 1"),
    ("repeat 1 times", "2 to 20"),
    ("repeat 999 times", "2 to 20"), ("", "no edit"), (" ; ;", "no edit"), ("x" * 5000, "at most 4000"),
    ("raise the left arm; lower the left arm until 2s", "contradict each other"),
    ("hands together; spread the hands", "contradict"),
    ("keep the legs; bend the right knee", "'keep the legs' and 'bend the right knee' contradict"),
    ("hands together; put the left hand above the right hand",
     "'left hand and right hand very close' and 'left hand above right hand'"),
    ('set "L-elbow angle 3"; set "L-elbow angle 9"', "contradict each other"),
    ("raise the left arm for 2 seconds", "says how long, not when"), ("foo slower", "'foo' is not understood"),
    ("do not bend the knees", "say what is to be"), ("slow down the arms", "slow is of all of the body"),
    ("mirror the arms", "mirror is"),
    ("raise the left arm between 1s and 2s and between 3s and 4s", "two times"),
    ("raise the left arm in the third half", "is none"),
    ("left hand closer to the left elbow", "no distance is told of left hand and left elbow; there is of a hand and"),
    ("make me a sandwich", "'me' is not understood"), ("reverse it", "(near:"), ("raise the left arm @", "what is '@'"),
    ("raise the left arm é", "'é' is not understood"), ("make it more dramatic", "'dramatic'"),
    ("the", "does not say what to do"),
    ("at 5 % speed", "20 times, expected more than 1"), ("slower by 1", "1 times"), ("", "no edit"),
    ("swing the arms more", "'swing'"),
    ("turn the head to the left", "'turn' is not understood"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused_with_what_is_near(text, said):
    with pytest.raises(ValueError) as error:
        edit(text)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_edits_of_the_same_part_at_different_times_do_not_contradict():
    found = edit("raise the left arm until 2s; lower the left arm after 3s; keep the legs until 2s; bend the right knee after 2s")
    assert len(found.codes) == TOKENS


def test_raising_an_arm_moves_groups_of_that_arm_up_in_those_tokens_alone():
    found = edit("raise the left arm between 2s and 4s")
    assert all(any(joint in key for joint in ("left_hand", "left_wrist", "left_elbow")) for key in touched(found))
    assert found.joints == {"left_elbow", "left_wrist"}
    same = (found.codes == CODES).all(-1)
    assert same[:10].all() and same[20:].all() and not same[10:20].any()
    key = "relY left_hand left_shoulder"
    assert bins(found.codes, key)[10:20] == [min(each + 1, 2) for each in bins(CODES, key)[10:20]]
    assert not found.touched[:10].any() and not found.touched[20:].any()


def test_what_is_not_touched_does_not_change_and_every_token_keeps_one_code_of_each_group():
    texts = ["raise both arms fully", "crouch much", "hands together", "spread the legs by 30 cm", "lean to the left",
        "mirror until 2s",
             "bend the elbows", "straighten the right arm; raise the left leg; lean back", "raise the right elbow", "knees apart"]
    for text in texts:
        found = edit(text)
        before, after = indices_from_codes(CODES), indices_from_codes(found.codes)  # refuses others
        assert torch.equal(before[~found.touched], after[~found.touched]) and not torch.equal(before, after), text


def test_every_move_can_be_asked_for_and_goes_both_ways():
    names = {"body": "trunk"}
    words = {"height": ("raise", "lower"), "bend": ("bend", "straighten"), "forward": ("move {} forward", "move {} backward"),
             "outward": ("move {} outward", "move {} inward"), "apart": ("{} apart", "{} closer"),
             "leftward": ("lean to the left",),
             "rightward": ("lean to the right",), "backward": ("lean backward",)}  # fmt: skip
    for part, attribute in MOVES:
        named = names.get(part, part if part in ("hands", "elbows", "arms", "feet", "knees", "legs") else f"left {part}")
        for word in words[attribute]:
            text = word.format(named) if "{}" in word or word.startswith("lean") else f"{word} {named}"
            moves = moves_of(parse_edits(text)[0], TOKENS, FPS)
            assert any(move.main for move in moves), text
            assert {move.group.key for move in moves} <= {group.key for group in TABLE.groups}


def test_an_edit_of_the_right_side_is_the_mirror_image_of_one_of_the_left():
    for what in ("raise the {} arm", "bend the {} elbow", "move the {} hand outward", "move the {} foot forward",
        "raise the {} leg"):
        left = edit(what.format("left"), consistent=False)
        mirrored = edit("mirror").codes
        right = edit(what.format("right"), mirrored, consistent=False)
        assert torch.equal(mirrored_indices(indices_from_codes(left.codes)), indices_from_codes(right.codes)), what


def test_left_is_left_for_either_arm():
    for side in ("left", "right"):
        key = f"relX {side}_hand {side}_shoulder"
        assert bins(edit(f"move the {side} arm to the left fully").codes, key) == [0] * TOKENS, side


def test_numbers_are_steps_of_bins():
    knee = bins(CODES, "angle right_knee")
    assert bins(edit("bend the right knee by 30 degrees").codes, "angle right_knee") == [max(each - 3, 0) for each in knee]
    assert set(bins(edit("bend the right knee to 90 degrees").codes, "angle right_knee")) == {8}
    assert bins(edit("bend the right knee to at most 150 degrees").codes, "angle right_knee") == [min(each, 14) for each in knee]
    hands = bins(CODES, "distance left_hand right_hand")
    apart = edit("move the hands apart by 20 cm").codes
    assert bins(apart, "distance left_hand right_hand") == [min(each + 2, 9) for each in hands]
    assert bins(edit("bend the right knee by 1 step").codes, "angle right_knee") == [each - 1 for each in knee]


def test_a_code_is_set_by_its_words_or_its_published_name():
    for text in ("put the left hand above the left shoulder", "left hand is above left shoulder",
                 'set "L-hand vs L-shoulder relY above"'):
        (put,) = parse_edits(text)
        assert isinstance(put, Put) and TABLE.words(put.code) == "left hand above left shoulder"
    found = edit("put the left foot off the ground in the first second", consistent=False)
    assert touched(found) == {"ground left_foot"} and bins(found.codes, "ground left_foot")[:5] == [1] * 5
    for code in range(TABLE.width):
        assert parse_edits(f'set "{TABLE.official_name(code)}"')[0].code == parse_edits(TABLE.words(code))[0].code == code


def test_hands_that_are_together_are_at_one_place():
    found = edit("hands together", token_codes(raise_hand(60)))
    for key in ("relX left_hand right_hand", "relY left_hand right_hand", "relZ left_hand right_hand"):
        assert set(bins(found.codes, key)) == {1}, key
    plain = edit("hands together", token_codes(raise_hand(60)), consistent=False)
    assert touched(plain) == {"distance left_hand right_hand"} and touched(plain) < touched(found)


def test_kept_parts_stay_while_all_else_is_mirrored():
    found = edit("mirror; keep the legs")
    before, after = indices_from_codes(CODES), indices_from_codes(found.codes)
    legs = sorted(kept_groups(parse_edits("keep the legs")[0].parts))
    assert torch.equal(before[:, legs], after[:, legs]) and not found.touched[:, legs].any()
    others = sorted({*range(70)} - {*legs})
    assert torch.equal(mirrored_indices(before)[:, others], after[:, others])
    arms = {TABLE.groups[number].key for number in kept_groups(parse_edits("keep the arms")[0].parts)}
    assert "relY left_hand right_hand" in arms and "distance left_hand left_knee" not in arms


def test_tempo_and_repetition_reorder_tokens_and_change_none():
    slower, faster, twice = edit("slower by 2"), edit("2 times faster"), edit("repeat twice between 1s and 2s")
    assert len(slower.codes) == 50 and slower.source.tolist() == [k // 2 for k in range(50)]
    assert faster.source.tolist() == [k * TOKENS // 12 for k in range(12)]
    assert twice.source.tolist() == [*range(10), *range(5, 10), *range(10, 25)]
    for found in (slower, faster, twice):
        assert torch.equal(found.codes, CODES[found.source]) and not found.touched.any() and not found.joints
    both = edit("raise the left arm between 1s and 2s; slower between 1s and 2s")
    assert both.touched.any(-1).nonzero()[:, 0].tolist() == [*range(5, 13)] and len(both.codes) == TOKENS + 3


def test_mirroring_twice_is_nothing():
    assert torch.equal(edit("mirror; mirror").codes, CODES)


def test_replies_keep_their_group_codes_and_range_together_and_others_are_named():
    indices = indices_from_codes(CODES)
    elbow = TABLE.by_key["angle left_elbow"]
    good = Reply(elbow.number, [elbow.first + 3] * TOKENS, 5, 99)
    bad = [Reply(elbow.number, [0] * TOKENS, 0, 3),
           Reply(70, [0] * TOKENS, 0, 3), Reply(elbow.number, [elbow.first] * TOKENS, 9, 4)]
    found, refused = apply_replies(indices, [good, *bad])
    assert (found[5:, elbow.number] == elbow.first + 3).all() and torch.equal(found[:5], indices[:5])
    assert len(refused) == 3 and "code 0 is none of group 2 (angle left_elbow): 36 to 53" in refused[0]
    assert "expected 0 to 69" in refused[1] and "no token" in refused[2]
    short, _ = apply_replies(indices, [Reply(elbow.number, [elbow.first] * 4, 2, 20)])
    assert (short[:, elbow.number] == elbow.first).sum() >= 2 and torch.equal(short[4:], indices[4:])
    with pytest.raises(ValueError, match="the motion has 25"):
        with_codes(indices, elbow.number, [elbow.first] * 3, 24)


def test_codes_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"expected \(tokens, 392\)"):
        edit("mirror", CODES[None])
    with pytest.raises(ValueError, match="0 codes of group"):
        edit("mirror", torch.zeros_like(CODES))


def test_the_grammar_is_read_without_torch():
    code = ("import sys; from data_loaders.pose_moves import moves_of; from data_loaders.edit_grammar import parse_edits\n"
            "moves_of(parse_edits('raise the left arm')[0], 9, 20.0); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

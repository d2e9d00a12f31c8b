"""Edits of all of a motion (slower, mirror, repeat), and of single pose codes by their names: what asks for no attribute."""

import math
import re
from collections.abc import Iterable

from data_loaders.edit_kinds import Mirror, Pace, Repeat
from data_loaders.edit_times import Span
from data_loaders.edit_words import AMOUNTS, HANDLING, PLACES, SINGULARS, VERBS
from data_loaders.pose_code_table import pose_code_table

PACE, LITTLE_PACE, MUCH_PACE, FURTHEST_PACE, MOST_REPEATS = 1.5, 1.2, 2.0, 8.0, 20
NUMBER = r"(\d+(?:\.\d+)?)"
_ASK = (r"(?:(?:please|can|could|you|i|want|would|like|to|just|also|then|play|make|do|run|let|have|put|set|keep|take|the|whole|"
        r"entire|it|this|that|him|her|them|all|everything|motion|movement|animation|clip|should|must|be|is|go|goes|lasts?) )*"
        r"(?:the \w+ |\w+ing )?(?:should |to )?(?:be |go |last |take )?")  # fmt: skip
_MUCH = "a|much|far|way|very|really|even|bit|little|tad|lot|slightly|somewhat|considerably|significantly"
_SLOW = r"slower|slow|slow down|slow (?:it|\w+) down|slow the \w+(?: down)?|slow down the \w+"
_FAST = r"(?:faster|fast|quicker|speed up|speed (?:it|\w+) up|speed the \w+ up|speed up the \w+)"
_PACE = re.compile(rf"{_ASK}(?:(?:{_MUCH}) )*(?:({_SLOW})|{_FAST})(?: (?:{_MUCH}))*(?:(?: by)? {NUMBER}(%| ?x| times)?)?")
_TIMES = re.compile(rf"{_ASK}{NUMBER}(?: ?x| times|(%))? "
                    r"(?:(slower|as slow|as slowly|as long|longer)|faster|quicker|as fast|as quick)")  # fmt: skip
_SPEED = re.compile(rf"{_ASK}(?:at |with |to |down to |slow down to |speed up to )*{NUMBER}(%| ?x| times)? (?:of )?(?:the )?"
                    r"(?:original )?(?:speed|tempo|pace)")  # fmt: skip
_SIDES = "left and right|left to right|the sides|sides|horizontally"
_MIRROR = re.compile(rf"{_ASK}(?:mirror(?:ed)?(?: (?:it|everything|the \w+|the whole \w+|{_SIDES}))*|"
                     rf"(?:flip|swap|exchange)(?:ped)?(?: (?:it|the \w+))? (?:{_SIDES}))")  # fmt: skip
_NAMES = "|".join(sorted([*SINGULARS, *SINGULARS.values()], key=len, reverse=True))
_LIMBS = re.compile(rf"\b(?:{_NAMES})\b")
_AT = r"(?:at|to|on|onto|up to|down to)"
_REPEAT = re.compile(r"(?:(?:please|can|could|you|i|want|would|like|to|just|then|let|him|her|them) )*"
                     r"(?:(?:repeat|loop)(?:ed)?|(play|do))(?: (?:it|this|that|the \w+|the whole \w+))?"
                     rf"(?: {NUMBER}( more)?(?: times| x|x)?| (twice)| (once|again|one more time|once more))?")  # fmt: skip


def of_the_whole(text: str, rest: str, span: Span) -> Pace | Repeat | Mirror | None:
    """What a plain edit asks of all of the motion; None where it is none such. ValueError for a pace or number out of range."""
    if _LIMBS.search(rest):
        return None
    if _MIRROR.fullmatch(rest):
        return Mirror(text, span)
    if (found := _REPEAT.fullmatch(rest)) and (not found[1] or found[2] or found[4] or found[5]):
        times = float(found[2] or 2) + bool(found[3])
        if not 2 <= times <= MOST_REPEATS or times != int(times):
            raise ValueError(f"{text!r}: {times:g} times in a row, expected 2 to {MOST_REPEATS}")
        return Repeat(text, int(times), span)
    factor = _factor(rest)
    if factor is None:
        return None
    if factor == 1 or not 1 / FURTHEST_PACE <= factor <= FURTHEST_PACE:
        told = f"{factor:g} times" if factor >= 1 else f"1/{1 / factor:g} times"
        raise ValueError(f"{text!r}: {told}, expected more than 1, at most {FURTHEST_PACE:g}")
    return Pace(text, factor, span)


def _factor(rest: str) -> float | None:
    """So many times as long."""
    if found := _PACE.fullmatch(rest):
        words = [word for word in rest.split() if word in AMOUNTS]
        strength = max((AMOUNTS[word] for word in words), key=lambda each: abs(math.log(abs(each))), default=1.0)
        usual = PACE if strength == 1 else LITTLE_PACE if strength < 1 else MUCH_PACE
        number = float(found[2]) if found[2] else usual
        by = max(1 + number / 100 if found[3] == "%" else number, 1.0)
        return by if found[1] else 1 / by
    if found := _TIMES.fullmatch(rest):
        by = 1 + float(found[1]) / 100 if found[2] else float(found[1])
        return None if not by else by if found[3] else 1 / by
    if found := _SPEED.fullmatch(rest):
        speed = float(found[1]) / (100 if found[2] == "%" else 1)
        return 1 / speed if speed else None
    return None


def named_codes(text: str, rest: str) -> list[int]:
    """Codes whose words or published name an edit is: of both sides where it says so. ValueError where a name in quotes is
    none."""
    table = pose_code_table()
    names = {name.lower(): code for name, code in table.official_codes.items()}
    names |= {bare(name): code for name, code in table.worded_codes.items()}
    if quoted := re.search(r"[\"“]([^\"”]*)[\"”]", rest):
        if quoted[1] not in names:
            raise ValueError(f"{text!r}: no code is called {quoted[1][:80]!r}{near(quoted[1], [*table.official_codes])}")
        return [names[quoted[1]]]
    plain = re.sub(rf"^(?:please )?(?:(?:{'|'.join((*HANDLING, *VERBS))}) )?", "", rest.strip())
    for words in (plain, bare(plain)):
        if words in names:
            return [names[words]]
    told = _subject_and_place(bare(plain))
    if told is None:
        return []
    side, limbs, place = told
    found = []
    for each in ("left", "right") if side == "both" else (side,):
        own = re.sub(r"(?:(?:left|right) )?\b(shoulder|hip)s?$", rf"{each} \1", place)
        found += [names.get(f"{each} {limb} {own}") for limb in limbs]
    return [] if None in found else found


def _subject_and_place(rest: str) -> tuple[str, tuple[str, ...], str] | None:
    """(side, limbs, where they are to be) of 'both hands up to shoulder height', in the words of codes."""
    found = re.fullmatch(rf"(?:(left|right|both) )?({_NAMES}) (?:up |down )?(.+)", rest)
    if not found:
        return None
    name = SINGULARS.get(found[2], found[2])
    side = found[1] or ("both" if found[2] in SINGULARS else "")
    place = re.sub(rf"^(?:{_AT} )?(?:height|level) of |^{_AT} (?=\w+ (?:height|level)$)", "level with ", found[3])
    place = re.sub(rf"^{_AT} (?=(?:his |her )?(?:hips?|waist)$)", "level with ", place)
    place = re.sub(r" (?:height|level)$", "", re.sub(r"\b(?:his|her|their|your) ", "", place)).replace("waist", "hip")
    for said, meant in PLACES.items():
        place = re.sub(rf"^{said}\b", meant, place)
    if not side or (place.startswith("level with") and not re.search(r"(?:shoulder|hip|neck)s?$", place)):
        return None
    if place in ("horizontal", "vertical", "slanted"):
        limbs = {"arm": ("upper arm", "forearm"), "leg": ("thigh", "shin")}.get(name, (name,))
    elif place.endswith("neck"):
        limbs = ("wrist" if name in ("hand", "arm", "wrist", "fist") else "ankle",)
    else:
        limbs = ({"arm": "hand", "wrist": "hand", "fist": "hand", "leg": "foot", "ankle": "foot"}.get(name, name),)
    return side, limbs, place


def bare(text: str) -> str:
    """Without what adds nothing."""
    return " ".join(word for word in text.lower().split() if word not in ("the", "is", "are"))


def near(wrong: str, known: Iterable[str]) -> str:
    """For an error about a word that is none."""
    from data_loaders.joint_mapping import nearest  # brings numpy, and only errors need it

    return nearest(wrong[:80], known)

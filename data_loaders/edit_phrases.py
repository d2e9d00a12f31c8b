"""Free sentences brought to the words that edits are read in: numbers, idioms, courtesies; and where one edit ends and the next
begins.
"""

import re

from data_loaders.edit_words import HANDLING, VERBS

NUMBERS = {word: number for number, word in enumerate(
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=1)}  # fmt: skip
_WORD = "|".join(NUMBERS)
_COUNTED = r"(?:more\s+)?(?:seconds?|secs?|frames?|tokens?|degrees?|deg|cm|centi\w+|met(?:er|re)s?|steps?|times|per\s?cent)\b"
_BEGINS = (*VERBS, *HANDLING, "slow", "speed", "slower", "faster", "mirror", "mirrored", "repeat", "repeated", "loop", "rise",
           "increase", "decrease", "reduce")  # fmt: skip
_GERUNDS = {re.sub(r"e$", "", verb) + "ing": verb for verb in (*VERBS, *HANDLING)} | {
    "putting": "put", "setting": "set", "getting": "get", "dropping": "drop", "squatting": "squat"}
_STAYS = (r"\b(?:exactly\s+)?(?:where|as|how|like|the way)\s+(?:they|it|he|she)\s+(?:are|is|were|was)\b|\b(?:the\s+)?same\b|"
          r"\b(?:as before|unchanged|untouched|in place|alone|fixed|planted|still|steady|as is)\b")  # fmt: skip
_ALL = r"\b(?:everything|all|the body|the part)"
_RULES = (  # in their order
    (r"[’`]", "'"), (r"\b(?:don't|dont|doesn't|never)\b", "do not"), (r"\bisn't\b|\baren't\b", "not"), (r"(\w)'s?(?!\w)", r"\1"),
    (r"\bwithout (?:moving|touching|changing|affecting)\b", ", keep"),
    (r"\bdo not (?:move|touch|change|alter|affect|edit)\b", "keep"), (r"\bdo not\b", "not"),
    (r"\bleave\b", "keep"), (rf"{_ALL} below (?:the |his |her )?(?:waist|hips?)\b|\blower half\b", "legs"),
    (rf"{_ALL} above (?:the |his |her )?(?:waist|hips?)\b|\bupper half\b", "upper body"),
    (r"\b(?:one|1) and a half\b", "1.5"), (r"\bhalf an? (second)\b", r"0.5 \1"),
    (rf"\b({_WORD})(?=\s+(?:{_COUNTED}))", lambda found: str(NUMBERS[found[1]])),
    (rf"\b({_WORD})(?=\s*(?:and|to|until|till|-)\s*\d)", lambda found: str(NUMBERS[found[1]])),
    (r"\b(after|until|till|before|from|by) an? (second|frame)\b", r"\1 1 \2"), (r"(\d) ?(?:per ?cent\b|%)", r"\1%"),
    (r"\btwice (?=as\b|the\b|slower|faster|longer)", "2 times "), (r"\bhalf as (?:fast|quick|quickly)\b", "2 times as slow"),
    (r"\bhalf (?:of )?(?:the )?(?:original )?(speed|tempo|pace)\b", r"50% \1"),
    (r"\bdouble (?:the )?(?:original )?(speed|tempo|pace)\b", r"200% \1"),
    (r"\b(?:in )?slow[- ]motion\b|\bslow-mo\b", "2 times slower"),
    (r"\b(?:above|over) (?:the |his |her |their |your )?heads?\b|\boverhead\b", "up fully"),
    (r"\bas (high|low|far|much|wide|deep|straight|close) as (?:possible|(?:you|he|she|they|it) (?:can|goes?))\b", r"\1 fully"),
    (r"\ball the way\b|\bas far as possible\b|\bto the max(?:imum)?\b", "fully"), (r"\ba (?:touch|hair)\b", "a bit"),
    (r"\bfloor\b", "ground"), (r"\bin the air\b", "up"),
    (r"\bin front(?: of (?:the |his |her |their )?(?:body|chest|torso|trunk|face|him|her|them))?(?! of)", "forward"),
    (r"\bbehind (?:the |his |her |their )?(?:body|back|him|her|them)\b", "backward"), (r"\blower body\b", "legs"),
    (r"\b(lower|drop|down)\b(.*?)\b(?:to|at|by|along) (?:the |his |her |their )?sides?\b", r"\1\2"),
    (r"\b(?:out )?(?:to|towards?) the sides?\b", "outward"), (r"\bleft and (?:the )?right\b(?= \w)(?! (?:side|to))", "both"),
    (r"\b(?:go|get|stay|sink|come|dip) (?:down|low|lower)\b", "crouch"), (r"\b(?:get|come|stand) up\b(?! straight)", "rise"),
    (r"\bstand (?:up )?(?:straight(?:er)?|upright|tall(?:er)?|higher)\b|\bstraighten up\b", "rise"),
    (r"\b(?:stays?|remains?)\b", "keep"),
    (r"\bbend (?:over|down)\b(?! the)", "bow"), (r"\bstance\b", "feet"), (r"\b(knee|elbow) (?=bend|angle|flexion)", r"\1s "),
    (r"\bangle\b|\bflexion\b", ""), (r"\bincrease\b", "more"), (r"\b(?:reduce|decrease|lessen|diminish)\b", "less"),
    (r"\btouch(?:es)? (.+?) with (.+)$", r"\2 onto \1"),
    (rf"\b({'|'.join(_GERUNDS)})\b", lambda found: _GERUNDS[found[1]]),
)  # fmt: skip


def plain(clause: str) -> str:
    """A clause in small letters and plainer words."""
    text = " ".join(clause.lower().split())
    if quoted := re.search(r"[\"“][^\"”]*[\"”]", text):  # a published name stays what it is
        return f"{plain(text[: quoted.start()])} {quoted[0]} {plain(text[quoted.end() :])}".strip()
    for pattern, better in _RULES:
        text = re.sub(pattern, better, text)
    if re.search(r"\b(?:keep|hold)\b", text) and re.search(_STAYS, text):
        text = re.sub(_STAYS, " ", re.sub(r"\bhold\b", "keep", text))
    return " ".join(text.split()).strip(" ,")


def pieces(clause: str) -> list[tuple[str, str]]:
    """(what joins it to the one before, edit) of a plain clause that says several: a verb follows 'and', 'then' or a comma."""
    begins = rf"(?=(?:also |please |just |then )*(?:{'|'.join(_BEGINS)})\b)"
    found = re.split(rf"\s*(?:,\s*)?\b(and then|and also|and|but|while|then)\s+{begins}|\s*(,)\s*{begins}", clause)
    joined = [("", found[0])]
    for place in range(1, len(found), 3):
        joined.append((found[place] or found[place + 1], found[place + 2]))
    said = [(how, piece.strip(" ,")) for how, piece in joined if piece.strip(" ,")]
    return [("" if place == 0 else how, piece) for place, (how, piece) in enumerate(said)]


def halves(clause: str) -> list[tuple[str, str]]:
    """Where a plain clause can be cut in two at an 'and' or a comma, whatever follows."""
    cuts = re.finditer(r"\s*(?:,\s*(?:and\s+)?|\band\s+|\bbut\s+|\bwhile\s+)", clause)
    pairs = [(clause[: cut.start()].strip(), clause[cut.end() :].strip()) for cut in cuts]
    return [(one, other) for one, other in pairs if one and other]

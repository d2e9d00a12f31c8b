"""Texts about each of two people out of the text about both, where nobody wrote them. Loads without torch."""

import re

BETWEEN = re.compile(r",?\s*(?:;|,|\b(?:while|whilst|whereas|as|and|but)\b)\s+(?=(?:the other|the second|another)\b)", re.I)
FIRST = re.compile(r"^(?:one|the first|the one)(?: (?:of them|person|man|woman|dancer|one))?\b", re.I)
SECOND = re.compile(r"^(?:the other|the second|another)(?: (?:person|man|woman|dancer|one))?\b", re.I)


def individual_texts(text: str) -> tuple[str, str]:
    """What each does, by one rule: a sentence that says what one does and then what the other does is cut between the two ("one
    person spins while the other claps": "a person spins", "a person claps"); any other sentence holds for either as it stands.
    """
    parts = BETWEEN.split(text.strip(), maxsplit=1)
    if len(parts) == 2 and FIRST.match(parts[0]) and SECOND.match(parts[1]):
        return FIRST.sub("a person", parts[0]), SECOND.sub("a person", parts[1])
    return text, text

"""What somebody else wrote, made fit for a sentence."""

from __future__ import annotations

import re

LONGEST = 200

_USER = re.compile(r"//[^/?#\s]*@")


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text in one line, printable, not longer than `longest`, and without the passwords of addresses."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = _USER.sub("//…@", " ".join(printable.split()))
    return line if len(line) <= longest else line[:longest] + "…"

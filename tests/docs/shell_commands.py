"""The commands in blocks of shell code, as far as these pages use the shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

SEPARATORS = frozenset("();|&\n")
KEYWORDS = {"until", "while", "if", "then", "else", "do", "done", "fi", "{", "}"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_COMMENT = re.compile(r"(^|[ \t])#[ \t].*$", re.MULTILINE)


def commands(block: str) -> Iterator[list[str]]:
    """Each command's words, without assignments before it and without comments; what pipes join are several commands.

    Variables are not replaced. Commands inside quotes are not found, but those of `$(…)` are.
    """
    lexer = shlex.shlex(_COMMENT.sub("", block).replace("\\\n", " "), posix=True, punctuation_chars="();|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for word in [*lexer, "\n"]:
        if set(word) <= SEPARATORS:
            if words:
                yield words
            words = []
        elif words or not (_ASSIGNMENT.fullmatch(word) or word in KEYWORDS):
            words.append(word)

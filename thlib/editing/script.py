"""The transcript: which words change (`diff`), and edit commands such as `f#2=g` turned into an edited text (`apply`).

Words match by their letters and digits alone; case and punctuation stay as written, for the captions."""

import difflib
import re
import unicodedata
from collections import namedtuple
from collections.abc import Iterable, Sequence

from thlib.clip import Word
from thlib.errors import EditError

# The old words [first, last) become the words `new`; first == last: inserted before it; new == (): a deletion.
Span = namedtuple("Span", "first last new")


def key(text: str) -> str:
    """What of a word is compared: letters, digits, spoken signs, inner apostrophes, case-folded; "" if it has none.
    >>> key("“Soon,”"), key("Don’t"), key("—")
    ('soon', "don't", '')"""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return "".join(c for c in plain if c.isalnum() or c in "'&%+@$£€" or unicodedata.combining(c)).strip("'")


def tokens(text: str) -> list[str]:
    """The words of a text as written, punctuation on them; dashes separate, tokens without a letter or digit go.
    >>> tokens("Place red — now, please.")
    ['Place', 'red', 'now,', 'please.']"""
    return [token for token in re.split(r"[\s–—]+|(?<=…)(?=\w)", text) if key(token)]


def diff(words: Sequence[Word], edited_text: str) -> list[Span]:
    """The spans of `words` that `edited_text` changes, in order, never touching (Ratcliff-Obershelp matching).
    Old words without a letter or digit are inaudible: they never match, and what lies on both sides merges.
    Raises EditError where nothing changes, nothing stays, or there are no words.
    >>> diff([Word("bin", 0, 1), Word("blue", 1, 2)], "Bin red, now")
    [Span(first=1, last=2, new=('red,', 'now'))]"""
    heard, new = _heard(words), tokens(edited_text)
    if not new:
        raise EditError("The edited text has no words: leave at least one word of the transcript.")
    match = difflib.SequenceMatcher(None, [key(words[i].text) for i in heard], [key(t) for t in new], autojunk=False)
    changes = [op[1:] for op in match.get_opcodes() if op[0] != "equal"]
    if not changes:
        raise EditError("The edited text has the same words as the transcript: change, add or remove at least one.")
    return [Span(*_range(heard, i, j), tuple(new[a:b])) for i, j, a, b in changes]


def apply(words: Sequence[Word], *, replace: Iterable = (), insert: Iterable = (), delete: Iterable = ()) -> str:
    """The edited text after commands; `#n` picks the n-th occurrence and is required where a phrase occurs twice.
    replace  "now=soon", "f#2=g", "four now=five soon"
    insert   "f=>very" (after f), "=>hello" (before the first word)
    delete   "bin", "f#1"
    All refer to `words`, none to another command's result. Raises EditError for a malformed command, a phrase
    that is not there or not unique, and for two commands on the same word."""
    edits = []
    for command in replace:
        old, equals, new = command.partition("=")
        if not equals or new[:1] == ">" or "=" in new or not tokens(new) or not key(old):
            raise EditError(f'"{command}" is not a replacement: write it as "old=new", such as "now=soon".')
        edits.append((Span(*_find(words, old), tuple(tokens(new))), command))
    for command in insert:
        anchor, arrow, new = command.partition("=>")
        if not arrow or "=" in new or not tokens(new):
            raise EditError(f'"{command}" is not an insertion: write it as "word=>new", or "=>new" for the start.')
        at = _find(words, anchor)[1] if anchor.strip() else _heard(words)[0]
        edits.append((Span(at, at, tuple(tokens(new))), command))
    edits += [(Span(*_find(words, command), ()), command) for command in delete]
    if not edits:
        raise EditError('No edit was given: write at least one, such as --replace "now=soon".')
    text, at = [], 0
    for span, command in sorted(edits, key=lambda edit: (edit[0].first, edit[0].last)):
        if span.first < at:
            raise EditError(f'"{command}" changes a word that another command changes too: join the two in one.')
        text += [word.text for word in words[at : span.first]] + list(span.new)
        at = span.last
    return " ".join(text + [word.text for word in words[at:]])


def occurrences(words: Sequence[Word], new: Sequence[str]) -> list[int]:
    """The indices from which `words` say `new`, one word after the other."""
    said, wanted = [key(word.text) for word in words], [key(text) for text in new]
    return [i for i in range(len(said) - len(wanted) + 1) if said[i : i + len(wanted)] == wanted]


def neighbours(words: Sequence[Word], first: int, last: int) -> tuple[str, str]:
    """Keys of the words on both sides of [first, last), "" at an end."""
    said = ["", *(key(word.text) for word in words), ""]
    return said[first], said[last + 1]


def _heard(words: Sequence[Word]) -> list[int]:
    """Indices of the audible words."""
    heard = [i for i, word in enumerate(words) if key(word.text)]
    if not heard:
        raise EditError("The transcript has no words: align one with the sound first.")
    return heard


def _range(heard: list[int], i: int, j: int) -> tuple[int, int]:
    """The old words [first, last) of the audible ones [i, j); an insertion sits right after the word before it."""
    if i < j:
        return heard[i], heard[j - 1] + 1
    at = heard[i - 1] + 1 if i else heard[0]
    return at, at


def _find(words: Sequence[Word], phrase: str) -> tuple[int, int]:
    """The old words [first, last) that `phrase` names, such as "four now" or "f#2"."""
    heard = _heard(words)
    name, number = re.fullmatch(r"(.*?)(?:#(\d+))?", phrase.strip(), re.DOTALL).groups()
    wanted = tokens(name)
    if not wanted:
        raise EditError(f'"{phrase}" names no word: write a word of the transcript, such as "now" or "f#2".')
    found = occurrences([words[i] for i in heard], wanted)
    if not found:
        near = difflib.get_close_matches(key(name), [key(words[i].text) for i in heard], n=1)
        hint = f'did you mean "{near[0]}"?' if near else f'it reads "{" ".join(words[i].text for i in heard)}".'
        raise EditError(f'The transcript has no "{name}": {hint}')
    times = ", ".join(f"#{n} at {words[heard[i]].start:.2f} s" for n, i in enumerate(found, 1))
    if number is None and len(found) > 1:
        raise EditError(f'"{name}" occurs {len(found)} times ({times}): say which, such as "{name}#1".')
    which = int(number or 1)
    if not 1 <= which <= len(found):
        raise EditError(f'"{phrase}": the transcript has "{name}" only as {times}.')
    at = found[which - 1]
    return _range(heard, at, at + len(wanted))

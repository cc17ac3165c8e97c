"""The transcript: word differences and edit commands."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thlib.clip import Word
from thlib.editing import script
from thlib.editing.script import Span, apply, diff, key, tokens
from thlib.errors import EditError


def spoken(text: str) -> list[Word]:
    """Words of a text, half a second each; "_" stands for an inaudible one."""
    return [Word("..." if t == "_" else t, i / 2, i / 2 + 0.4) for i, t in enumerate(text.split())]


GRID = spoken("Bin blue at f two f now.")
lexicon = st.lists(st.sampled_from(["a", "b", "c", "Don't", "two,", "—", "F.", "..."]), max_size=12)


def done(words, spans):
    """The keys of the words after the spans have been applied, from the last to the first."""
    keys = [[key(w.text)] for w in words]
    for span in reversed(spans):
        keys[span.first : span.last] = [[key(t) for t in span.new]]
    return [k for group in keys for k in group if k]


def test_dashes_and_dots_part_words_as_they_do_where_speech_is_aligned():
    assert tokens("well…soon — or re-do it…") == ["well…", "soon", "or", "re-do", "it…"]


@given(lexicon, lexicon)
def test_spans_turn_the_old_words_into_the_new(old, new):
    words, text = [Word(t, i, i + 0.5) for i, t in enumerate(old)], " ".join(new)
    before, after = [key(t) for t in old if key(t)], [key(t) for t in tokens(text)]
    if not before or not after or before == after:
        with pytest.raises(EditError):
            diff(words, text)
        return
    spans = diff(words, text)
    assert done(words, spans) == after
    for left, right in pairwise(spans):  # ordered, and an audible word stays between two spans
        assert any(key(w.text) for w in words[left.last : right.first])
    assert all(s.new or s.last > s.first for s in spans)


def test_documented_examples():
    assert doctest.testmod(script).failed == 0


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("bin blue at g two f now", [Span(3, 4, ("g",))]),
        ("Well, bin blue at f two f now", [Span(0, 0, ("Well,",))]),
        ("bin blue at f two f now please", [Span(7, 7, ("please",))]),
        ("blue at f two f", [Span(0, 1, ()), Span(6, 7, ())]),
        ("bin red at f two f soon", [Span(1, 2, ("red",)), Span(6, 7, ("soon",))]),
    ],
)
def test_kinds_of_change_and_both_ends(text, spans):
    assert diff(GRID, text) == spans


def test_inaudible_words_between_two_changes_merge_them():
    assert diff(spoken("a b _ c d"), "a x y d") == [Span(1, 4, ("x", "y"))]
    assert diff(spoken("a _ b"), "a c b") == [Span(1, 1, ("c",))]  # right after the word, before the pause


@pytest.mark.parametrize(
    ("text", "says"), [("BIN — blue at f, two f now!", "same words"), ("", "no words"), (" ... ", "no words")]
)
def test_edits_that_change_nothing_or_leave_nothing(text, says):
    with pytest.raises(EditError, match=says):
        diff(GRID, text)
    with pytest.raises(EditError, match="no words"):
        diff(spoken("_"), "a")


@pytest.mark.parametrize(
    ("commands", "text"),
    [
        ({"replace": ["NOW=soon", "f#2=g"]}, "Bin blue at f two g soon"),
        ({"insert": ["f#1=>very", "=>hello", "f#1=>much"]}, "hello Bin blue at f very much two f now."),
        ({"delete": ["bin", "two f"]}, "blue at f now."),
        ({"replace": ["f now=five soon"], "insert": ["two=>by"]}, "Bin blue at f two by five soon"),
        ({"replace": ["f two f=a"]}, "Bin blue at a now."),
    ],
)
def test_commands(commands, text):
    assert apply(GRID, **commands) == text


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ({}, "No edit"),
        ({"replace": ["f=g"]}, r"occurs 2 times \(#1 at 1.50 s, #2 at 2.50 s\)"),
        ({"replace": ["f#3=g"]}, "only as #1 at 1.50 s, #2"),
        ({"replace": ["f#0=g"]}, "only as"),
        ({"delete": ["green"]}, 'no "green": it reads "Bin blue'),
        ({"delete": ["bleu"]}, 'did you mean "blue"'),
        ({"delete": ["#2"]}, "names no word"),
        ({"replace": ["now"]}, 'as "old=new"'),
        ({"replace": ["=soon"]}, 'as "old=new"'),
        ({"replace": ["now="]}, 'as "old=new"'),
        ({"replace": ["a=b=c"]}, 'as "old=new"'),
        ({"replace": ["now=>soon"]}, 'as "old=new"'),
        ({"insert": ["f#1=very"]}, 'as "word=>new"'),
        ({"insert": ["f#1=>"]}, 'as "word=>new"'),
        ({"replace": ["two f=g"], "delete": ["f#2"]}, "another command"),
        ({"replace": ["two f=g"], "insert": ["two=>very"]}, "another command"),
    ],
)
def test_commands_that_cannot_be_meant(commands, says):
    with pytest.raises(EditError, match=says) as error:
        apply(GRID, **commands)
    assert "\n" not in str(error.value)

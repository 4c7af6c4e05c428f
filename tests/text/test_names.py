from __future__ import annotations

import pytest

from vidinit.text import clean
from vidinit.text.templates import match


@pytest.mark.parametrize(
    ("name", "words"),
    [
        # UCF101
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("YoYo", "Yo Yo"),
        ("HandstandPushups", "Handstand Pushups"),
        ("Archery", "Archery"),
        ("BMXRiding", "BMX Riding"),
        ("shoot3Balls", "shoot3 Balls"),
        # HMDB51
        ("brush_hair", "brush hair"),
        ("cartwheel", "cartwheel"),
        # Kinetics: clean already
        ("sharpening knives", "sharpening knives"),
        ("petting animal (not cat)", "petting animal (not cat)"),
        ("playing XBox", "playing XBox"),
        ("pull-ups", "pull-ups"),
        ('"skiing (not slalom or crosscountry)"', "skiing (not slalom or crosscountry)"),
        # Something-Something v2
        (
            "Pushing [something] from left to right",
            "Pushing something from left to right",
        ),
        (
            "Pretending to put [something] behind [something]",
            "Pretending to put something behind something",
        ),
        ("Putting something into something", "Putting something into something"),
        (
            "Putting [number of] [something] onto [something]",
            "Putting number of something onto something",
        ),
        # Moments in Time
        ("adult+female+singing", "adult female singing"),
        ("a + b", "a + b"),
        # untidy
        ("  two   spaces ", "two spaces"),
        ("using_a computer", "using a computer"),
        ("abseiling", "abseiling"),
        ("TV", "TV"),
    ],
)
def test_class_names_become_words(name, words):
    assert clean(name) == words
    assert clean(words) == words  # what is clean stays


def test_names_are_matched_as_words():
    known = ["Apply Eye Makeup", "brush hair", "a_b", "a b"]
    names = ["brush_hair", "ApplyEyeMakeup", "a b", "a_b", "A B", "jump"]
    assert match(names, known) == [1, 0, 3, 2, 2, -1]

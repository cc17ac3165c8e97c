"""The presenter speaks: phones with their times and an emotion become curves, curves and a person become a video.

    done = say("Good morning.", emotion="happy", identity=7)
    done.save("hello.mp4")                  # with its track, words and provenance beside it

Co-articulation by dominance functions (Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech"):
each phone pulls every control towards its target; its pull fades with the distance in time, and the pulls are averaged.
"""

# T frames  P phones  K controls (52)
from __future__ import annotations

from thlib.rig import ARKIT

BEFORE, AFTER = 0.32, 0.4  # s of silence around what is said
# A target is a letter and hundredths: Jaw open, tongue Out; Round (pucker), Funnel, Wide (stretch), Smile; Lower lip
# down, upper lip up (Top); mouth Closed, Pressed, lower lip Bitten (rolled in).
_CONTROLS = {
    "J": "jawOpen", "O": "tongueOut", "R": "mouthPucker", "F": "mouthFunnel", "W": "mouthStretch*", "S": "mouthSmile*",
    "L": "mouthLowerDown*", "T": "mouthUpperUp*", "C": "mouthClose", "P": "mouthPress*", "B": "mouthRollLower",
}  # fmt: skip
_GROUPS = "JO", "RFWS", "LT", "CPB"  # jaw, rounding, height of the lips, closure: each with its own dominance
# Phones: targets; then strengths in the four groups and reach in s (of a closure CLOSURE).
_TABLE = """
    AA J40 L9 | 1 1 1 1 .07           AE J36 L11 T5 S8 | 1 1 1 1 .07    AH J25 L6 | .8 .6 .8 1 .06
    AO J30 R30 F22 | 1 2 1 1 .08      EH J31 L9 T3 S8 | 1 1 1 1 .07     ER J19 R18 F16 | .9 1.2 .9 1 .07
    IH J21 L7 S10 W4 | .8 .8 .8 1 .06  IY J17 L9 T2 S20 W9 | 1 1.4 1 1 .07  UH J19 R34 F16 | .9 1.8 .9 1 .08
    UW J11 R60 F18 | 1 3 1 1 .10      W J8 R68 F14 | 1.5 4 1 1 .10      R J13 R28 F18 | 1 1.5 1 1 .07
    Y J13 S15 W7 | 1 1 .8 1 .06       L J18 L7 | 1 .2 .8 1 .05          HH J20 | .15 .1 .15 1 .05
    B J8 C100 | 1.5 .4 3 60 .05       P J7 C100 P12 | 1.5 .4 3 60 .05   M J8 C100 P6 | 1.5 .4 3 60 .05
    F J4 T16 B80 | 3 .6 6 60 .05      V J5 T14 B70 | 3 .6 6 60 .05
    TH J13 L8 T4 O40 | 2 .3 1.5 1 .05  DH J13 L7 T3 O30 | 1.5 .2 1.2 1 .04
    T J15 L7 T2 | 1 .2 .7 1 .04       D J15 L7 T2 | 1 .2 .7 1 .04       N J15 L6 | .9 .2 .6 1 .04
    S J10 L10 T5 S10 W8 | 3 .5 1.5 1 .05  Z J10 L10 T5 S8 W7 | 3 .5 1.5 1 .05
    SH J11 F42 R26 | 3 2.5 1 1 .07    ZH J11 F40 R26 | 3 2.5 1 1 .07
    CH J11 F42 R24 | 3 2.5 1 1 .06    JH J11 F38 R24 | 3 2.5 1 1 .06
    K J19 L5 | .5 .1 .4 1 .04         G J19 L5 | .5 .1 .4 1 .04         NG J18 L5 | .5 .1 .4 1 .04
    SIL J1 | 1 1 1 1 .06
"""
DIPHTHONGS = {"AW": ("AA", "UH"), "AY": ("AA", "IH"), "EY": ("EH", "IY"), "OW": ("AO", "UW"), "OY": ("AO", "IH")}
BILABIAL, LABIODENTAL = ("M", "B", "P"), ("F", "V")
CLOSURE = 0.012  # s: lips part and meet quickly
EFFORT = {"angry": 1.12, "surprise": 1.1, "happy": 1.06, "sad": 0.85, "fear": 1.0, "disgust": 0.95, "neutral": 1.0}
_OPENING = "jawOpen mouthFunnel mouthLowerDown* mouthUpperUp* mouthShrugUpper mouthFrown* mouthDimple* mouthRollUpper"


def _columns(names: str) -> list[int]:
    both = [name.replace("*", side) for name in names.split() for side in ("Left", "Right")[: 1 + name.count("*")]]
    return [ARKIT.index(name) for name in both]

"""Fit the ridge from log-mel to the tracker's controls that ships as EmoFace's classical method, and write its card.

    THLIB_MIRROR=... python tools/fit_rig.py

Fitted on GRID's s1 (240 train clips) and one clip each of seven other speakers, every speaker's controls less their own
rest (the median of the quiet frames). Only mouth, jaw, nose and cheeks: what speech does not move is left to behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from thlib import data
from thlib.clip import Video, mono16k
from thlib.emoface import FPS, REACH, WEIGHTS, EmoFacePipeline, _loudness
from thlib.landmarks import BLENDSHAPES, track
from thlib.metrics import correlation
from thlib.speech import log_mel, standardised, windows

SPOKEN = np.array([name.startswith(("jaw", "mouth", "cheekPuff", "noseSneer")) for name in BLENDSHAPES])
CARD = """# Controls from sound, classically

`default`: ridge regression from log-mel (80 bands, 25 a second, ± 6 frames) to how far the tracker's 52 controls leave
their rest, see `thlib/emoface.py`. {size:,} numbers, fp16. Made by `tools/fit_rig.py`.

| 40 test clips of GRID's s1 | r | R² |
|---|---|---|
{rows}

r and R² over the pooled frames. A mean of the right size has R² 0; RMSE would prove nothing, since most controls hardly
move. Fitted on {clips} clips. Footage: GRID audiovisual sentence corpus (Cooke, Barker, Cunningham & Shao 2006, doi
10.1121/1.2229005), CC BY 4.0. Limits: English read by eight people, one of them nine tenths of the footage; neutral.
Expressions, blinks, gaze and head motion are added by rule (`thlib/behaviour.py`), not learned.
"""


def footage(split: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Sound (S,), log-mel (T, 80), controls off their rest (T, 52) of each clip, and its file."""
    for name in ("grid-s1", "grid-speakers"):
        for file, entry in data.manifest(name).files.items():
            if not file.endswith(".mpg") or (entry.split or "train") != split:
                continue
            video = Video(data.path(f"{name}/{file}"))
            found = track(video)
            if found.visible.mean() < 0.8:
                continue
            sound = mono16k(video.audio, video.audio_rate)
            loud = np.interp(np.arange(video.n_frames) / float(FPS), *_loudness(sound))
            rest = np.median(found.controls[loud <= np.quantile(loud, 0.2)], axis=0)
            yield sound, log_mel(sound, FPS, video.n_frames), (found.controls - rest) * SPOKEN, file


def main() -> None:
    """Fit, judge, save."""
    train = list(footage("train"))
    rows = np.concatenate([windows(standardised(mel), REACH, mode="constant") for _, mel, _, _ in train])
    ridge = Ridge(alpha=300.0).fit(rows, np.concatenate([controls for _, _, controls, _ in train]))
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    arrays = {"weight": ridge.coef_.T.astype(np.float16), "bias": ridge.intercept_.astype(np.float16)}
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, WEIGHTS / "default.safetensors")
    model, pairs = EmoFacePipeline.from_pretrained(), []
    for sound, _, controls, _ in footage("test"):
        said = model.speech(sound).values
        pairs.append((said[: len(controls)], controls[: len(said)].clip(0, 1)))
    said, true = (np.concatenate(both) for both in zip(*pairs))
    lines = []
    for name in ("jawOpen", "mouthFunnel", "mouthPucker", "mouthLowerDownLeft", "mouthStretchLeft", "mouthPressLeft"):
        a, b = said[:, BLENDSHAPES.index(name)], true[:, BLENDSHAPES.index(name)]
        lines.append(f"| {name} | {correlation(a, b):.2f} | {r2_score(b, a):.2f} |")
    card = CARD.format(size=sum(a.size for a in arrays.values()), rows="\n".join(lines), clips=len(train))
    (WEIGHTS / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()

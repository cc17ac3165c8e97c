"""What is measured and how: lips, reading, pictures, seams, joins, reenactment, each with its source and its trap.

Definitions and known figures are those of the course's benchmarks; every table carries its adversaries."""

# T frames  P lip points (40)  H height  W width  S samples
from collections.abc import Sequence
from typing import Self

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from thlib.landmarks import face_scale

UPPER_LIP, LOWER_LIP = 35, 25  # places of mesh points 13 and 14 among the 40 lip points


def lip_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of two (T, P, 2) lip motions, in % of the distance of the eye corners.
    Both are head-fixed, in eye-corner units, each with its own clip's mean over the unedited words subtracted.
    Trap: a mouth that never moves scores about 2.1 on GRID and a mumble less; read `LipReader` beside it."""
    return float(100 * np.linalg.norm(predicted - truth, axis=-1).mean())


def opening(lips: np.ndarray) -> np.ndarray:
    """Mouth opening (T,): distance of the inner lips' midpoints (mesh 13 and 14) of (T, P, 2), in its unit."""
    return np.linalg.norm(lips[:, UPPER_LIP] - lips[:, LOWER_LIP], axis=-1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two (T,) curves; 0 where one of them is flat (a held mouth follows nothing)."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-12 else 0.0


def deviation_ratio(predicted: np.ndarray, truth: np.ndarray) -> float:
    """How much `predicted` (T, P, 2) moves against `truth`: ratio of their standard deviations over time.
    1 is lively as life, below 1 mumbles, 0 is held. Trap: jitter raises it."""
    return float(np.sqrt(predicted.var(0).mean() / truth.var(0).mean()))


def sync_offset(predicted: np.ndarray, truth: np.ndarray, *, most: int = 5, margin: float = 0.0) -> int:
    """Frames by which the opening of `predicted` (T, P, 2) comes late against `truth` (negative: early), NaN where no
    face is seen. 0 where r there is not above 0, and above r in step, by `margin`."""
    a, b, lags = opening(predicted), opening(truth), sorted(range(-most, most + 1), key=abs)
    pairs = [(a[max(k, 0) : len(a) + min(k, 0)], b[max(-k, 0) : len(b) - max(k, 0)]) for k in lags]
    alike = [correlation(x[seen], y[seen]) for x, y in pairs for seen in [~np.isnan(y)]]
    best = int(np.argmax(alike))
    return lags[best] if alike[best] >= max(alike[0], 0) + margin else 0


class LipReader:
    """Reads a word from its lips alone: LDA (shrinkage 0.3) on 12 principal components at 12 times across the word.
    The word's duration is left out on purpose: alone it reads 0.38 of GRID's digits, and it belongs to the sound.
    Trap: fitted on true lips of one corpus, it judges only words and camera angles of that corpus."""

    def _features(self, words: Sequence[np.ndarray]) -> np.ndarray:
        codes = [self._pca.transform(lips.reshape(len(lips), -1)) for lips in words]  # (T, 12)
        places = [np.linspace(0, len(c) - 1, 12) for c in codes]
        return np.stack([np.ravel([np.interp(p, np.arange(len(c)), k) for k in c.T]) for p, c in zip(places, codes)])

    def fit(self, words: Sequence[np.ndarray], labels: Sequence[str]) -> Self:
        """Learn from words: a list of (T_i, P, 2) lip motions and what each one says."""
        self._pca = PCA(12).fit(np.concatenate([w.reshape(len(w), -1) for w in words]))
        self._lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(self._features(words), labels)
        return self

    def read(self, words: Sequence[np.ndarray]) -> np.ndarray:
        """What each (T_i, P, 2) lip motion says: (n,) labels."""
        return self._lda.predict(self._features(words))


def psnr(result: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures of one shape; 100 for equal ones. Trap: a blur scores well."""
    return 100.0 if np.array_equal(result, truth) else float(peak_signal_noise_ratio(truth, result, data_range=255))


def ssim(result: np.ndarray, truth: np.ndarray) -> float:
    """Mean structural similarity over the frames of uint8 (T, H, W, 3), window 7 (Wang et al. 2004)."""
    pairs = zip(result, truth, strict=True)
    return float(np.mean([structural_similarity(t, r, channel_axis=-1, data_range=255) for r, t in pairs]))


def _luma(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])


def gradient_energy(frames: np.ndarray) -> float:
    """Mean squared horizontal step of the luma of uint8 (T, H, W, 3): sharpness. Trap: noise is sharp too."""
    return float(np.mean(np.diff(_luma(frames), axis=2) ** 2))


def flicker(frames: np.ndarray) -> float:
    """Root mean squared second difference over time of the luma of uint8 (T, H, W, 3), T >= 3, in grey levels."""
    return float(np.sqrt(np.mean(np.diff(_luma(frames), n=2, axis=0) ** 2)))


def mouth_box(points: np.ndarray, *, height: float, width: float) -> tuple[slice, slice]:
    """Rows and columns of a box of the given pixels around the mean of (…, P, 2+) lip points (48 x 56 on GRID)."""
    x, y = points[..., :2].reshape(-1, 2).mean(0)
    top, left = max(0, round(y - height / 2)), max(0, round(x - width / 2))
    return slice(top, top + round(height)), slice(left, left + round(width))


def scale_error(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """log(size / reference's size) (T,) of faces (T, 478, 3) against (T or 1, 478, 3): 0.1 is about 10 % too large.
    Sizes are `landmarks.face_scale`, from rigid points alone: the face's height moves with the jaw (0.016 on unedited
    clips). Trap: a pipeline that returns the source unchanged scores 0; ask what moves, too."""
    return np.log(face_scale(points) / face_scale(reference))


def share_above(joins: Sequence[float], steps: np.ndarray, *, percentile: float = 95) -> float:
    """Share of joins whose step lies above the clip's own percentile of steps (5 % by chance at the 95th).
    No fixed factor will do: 26 % of true frame-to-frame steps exceed 1.3 times their mean."""
    return float(np.mean(np.asarray(joins) > np.percentile(steps, percentile)))


def motion_steps(points: np.ndarray) -> np.ndarray:
    """Frame-to-frame motion (T - 1,) of (T, P, 2+) landmarks: mean distance moved, in their unit."""
    return np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1)


def picture_steps(frames: np.ndarray) -> np.ndarray:
    """Frame-to-frame change (T - 1,) of uint8 (T, H, W, 3): root mean squared luma step after a 1-pixel blur."""
    luma = np.stack([gaussian_filter(f, 1.0) for f in _luma(frames)])
    return np.sqrt(np.mean(np.diff(luma, axis=0) ** 2, axis=(1, 2)))


def sound_steps(audio: np.ndarray, rate: int, *, hop: float = 0.010) -> tuple[np.ndarray, np.ndarray]:
    """Level steps (dB) and spectral flux between neighbouring 20 ms windows of mono (S,) sound: two (n,) curves.
    Entry i compares the windows before and after sample round((i + 1) * hop * rate): look a join up there.
    Flux is the root mean squared step of the log spectrum (1e-4 floor), so that a quiet click counts."""
    size, step = round(2 * hop * rate), round(hop * rate)
    starts = np.arange(0, len(audio) - 2 * size, step)
    windows = np.stack([audio[s : s + 2 * size].reshape(2, size) for s in starts])  # before, after
    level = 10 * np.log10(np.mean(windows**2, axis=-1) + 1e-8)
    spectrum = np.log(np.abs(np.fft.rfft(windows * np.hanning(size), axis=-1)) + 1e-4)
    return np.abs(level[:, 1] - level[:, 0]), np.sqrt(np.mean((spectrum[:, 1] - spectrum[:, 0]) ** 2, axis=-1))

"""Stage 2 of text-based editing, learned: what no warp can show of mouth and jaw, by predict and refine.

Warped frames (editing.frames) go through a predictor, a small U-Net that says the mean of what is missing, and then a
conditional diffusion of the residual to it, which puts back the detail that a mean has lost (stochastic refinement:
Whang et al. 2022). Han et al. 2024 ("Text-based talking video editing with cascaded conditional diffusion") diffuse
the warped frames themselves: `refine="diffuse"`. All is a residual to the picture at its own resolution."""

# N new frames  h, w size of a crop (80, 96)  M mel bands (80)  B batch  C channels
from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn
from torch.nn import functional as F

from thlib.clip import Clip, Video, read
from thlib.diffusion import STEPS, noised, sample, schedule
from thlib.editing.frames import FADE, End, Library, inbetween, with_mouths
from thlib.errors import EditError
from thlib.footage import Footage
from thlib.landmarks import CONTOURS, LIPS, FaceTrack, Head, track
from thlib.speech import log_mel, standardised, windows
from thlib.training import Settings, train, warm_start
from thlib.warp import clipped, cut_of, fade_out
from thlib.warp import sample as look_up

Array, Dir = np.ndarray, Path | None
SIZE = np.array([96, 80])  # width and height of a crop in pixels
UNIT = 50  # pixels of a head's unit (Head.scale; GRID's s1: 66) in a crop, which then reaches from nose to chin
LOWER = 0.12  # of a crop's middle than that of the lips, in these units
SEAM = 8  # pixels of a crop over which what is added falls to 0 at its edge
HEARD = 4  # frames of sound on each side
CHUNK = 16  # frames that go through a network at once
DETAIL = 1.0  # pixels of a crop: what is coarser than this the predictor knows better
NETS = {"predict_diffuse": ("predictor", "refiner"), "predict": ("predictor",), "diffuse": ("refiner",), "none": ()}
SHARPENED = 0.4  # of a sample's detail is added once more: warps have blurred it, and a mean stays as it is
FAST = torch.cpu._is_avx512_bf16_supported()  # else bfloat16 is emulated, and slower than float32


@dataclass(frozen=True)
class Repair:
    """How stage 2 makes pictures. refine: "predict_diffuse", "predict" (the mean: blurred), "diffuse" (the paper's:
    the warped frames' residual, without a predictor) or "none" (warped frames with real mouths pasted in: the classical
    way). reference: where real mouths come from, the "nearest" frame of the untouched footage or the "border" frames.
    order: of in-betweening and warp (`frames.render`). steps: of DDIM, from level `begin`. samples: averaged."""

    refine: str = "predict_diffuse"
    reference: str = "nearest"
    order: str = "interpolate_warp"
    steps: int = 8
    begin: int = STEPS
    samples: int = 1

    def __post_init__(self):
        orders = "warp_blend", "interpolate_warp"
        for name, choices in {"refine": NETS, "reference": ("nearest", "border"), "order": orders}.items():
            if getattr(self, name) not in choices:
                raise EditError(f"{name}={getattr(self, name)!r} is unknown; take {', '.join(choices)}.")

    nets = property(lambda self: NETS[self.refine], doc="The networks it needs.")


class MouthNet(ModelMixin, ConfigMixin):
    """U-Net (Ronneberger et al. 2015, from diffusers) behind a pixel-unshuffle: crops and sound -> a residual to them.
    inputs: pictures it sees, 3 (warped, with real mouths, drawn) or 5 (also a guess and the guess's noisy residual).
    shuffle: edge of the blocks of pixels that become channels; 1: none, the same network at sixteen times the cost."""

    @register_to_config
    def __init__(self, widths=(56, 104, 144), inputs: int = 3, shuffle: int = 4):
        super().__init__()
        from diffusers.models import UNet2DModel

        blocks = {"down_block_types": ["DownBlock2D"] * len(widths), "up_block_types": ["UpBlock2D"] * len(widths)}
        size = {"in_channels": 3 * inputs * shuffle**2, "out_channels": 3 * shuffle**2, "block_out_channels": widths}
        kind = {"layers_per_block": 1, "norm_num_groups": 8, "add_attention": False, "class_embed_type": "identity"}
        self.unet = UNet2DModel(**size, **blocks, **kind)
        nn.init.zeros_(self.unet.conv_out.weight)  # untrained, it adds nothing
        nn.init.zeros_(self.unet.conv_out.bias)
        self.sound = nn.Sequential(nn.Linear(80 * (2 * HEARD + 1), 128), nn.SiLU(), nn.Linear(128, 4 * widths[0]))
        self.register_buffer("unit", torch.ones(2))  # size of the residual to the guess, and to the warped frames

    def forward(self, pictures: Tensor, sound: Tensor, level: Tensor) -> Tensor:
        """Residual (B, 3, h, w) of pictures (B, C, h, w) in [-1, 1]; sound (B, 80 * 9) log-mel; level (B,) of noise."""
        small = F.pixel_unshuffle(pictures, self.config.shuffle)
        return F.pixel_shuffle(self.unet(small, level, class_labels=self.sound(sound)).sample, self.config.shuffle)


class Crops(namedtuple("Crops", "frames boxes pictures masks sound")):
    """Coarse frames and what the networks see of them.
    frames uint8 (N, H, W, 3), warped and with real mouths; boxes int (N, 4), crops' x0, y0, x1, y1 in them;
    pictures uint8 (N, h, w, 9): warped, with real mouths, drawn landmarks of the frame before, this one, and the one
    after; masks float32 (N, h, w, 1), 1 on the face; sound float32 (N, 80 * 9)."""

    @classmethod
    def of(
        cls, left: End, right: End, *, target: Array, sound: Array, library: Library | None, order: str = "warp_blend"
    ) -> Self:
        """Coarse frames between the real ones `left` and `right`: the arguments are those of `frames.render`.
        sound float32 (N, 80 * 9): standardised log-mel at the new frames and around them."""
        boxes, coarse = _boxes(target), list(inbetween(left, right, target=target, order=order))
        warped = np.stack(list(map(_cut, coarse, boxes)))
        frames = np.stack(list(with_mouths(coarse, left, right, target=target, library=library)))
        mouths, drawn = (np.stack(list(map(make, of, boxes))) for make, of in ((_cut, frames), (_drawn, target)))
        around = np.pad(drawn, ((1, 1), (0, 0), (0, 0)), mode="edge")
        pictures = [warped, mouths, np.stack([around[:-2], around[1:-1], around[2:]], -1)]
        return cls(frames, boxes, np.concatenate(pictures, -1), np.stack(list(map(_mask, target, boxes))), sound)

    def pasted(self, residual: Array, *, both: tuple[bool, bool] = (True, True)) -> Array:
        """Frames uint8 (N, H, W, 3): the residual float32 (N, h, w, 3), in grey levels, added where the masks are.
        both: whether there is a real frame before and after, where the residual fades out over `FADE` frames."""
        out, n = self.frames.copy(), len(self.frames)
        ends = [np.arange(n) + 1, n - np.arange(n)]
        away = np.minimum.reduce([np.full(n, FADE + 1), *(end for end, real in zip(ends, both) if real)])
        for frame, extra, box, share in zip(out, residual * self.masks, self.boxes, away / (FADE + 1)):
            whole = share * _resized(extra, box[2:] - box[:2])
            inner = clipped(tuple(box), frame.shape[:2])
            cut = cut_of(inner, (0, 0))
            frame[cut] = np.rint(frame[cut] + whole[cut_of(inner, tuple(box))]).clip(0, 255)
        return out


def _boxes(points: Array) -> Array:
    """Crops' boxes int (N, 4) from nose to chin, all of one size; SIZE itself where that is nearly right."""
    zoom = float(Head.fit(points).scale.mean()) / UNIT
    size = SIZE if abs(np.log(zoom)) < 0.2 else np.rint(zoom * SIZE).clip(8)
    low = np.rint(points[:, LIPS, :2].mean(1) + [0, LOWER * UNIT * zoom] - size / 2)
    return np.concatenate([low, low + size], 1).astype(int)


def _cut(frame: Array, box: Array) -> Array:
    """The crop uint8 (h, w, 3) of a box, which may reach out of the frame."""
    x0, y0, x1, y1 = box.tolist()
    return _resized(look_up(frame, np.zeros((y1 - y0, x1 - x0, 2), np.float32), box=(x0, y0, x1, y1)), SIZE)


def _resized(picture: Array, size: Array) -> Array:
    """A picture (h, w, 3) of another `size` (w, h); the same object where it has that."""
    if picture.shape[1] == size[0]:
        return picture
    how = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(picture, size.tolist(), interpolation=how)


def _drawn(points: Array, box: Array) -> Array:
    """The landmark image uint8 (h, w): contours of lips and face, the inner mouth filled."""
    canvas, lines = np.zeros(SIZE[::-1], np.uint8), _contours(points, box)
    cv2.fillPoly(canvas, lines["inner"], 110, cv2.LINE_AA, shift=4)
    for name in ("oval", "outer", "inner"):
        cv2.polylines(canvas, lines[name], True, 255, 1, cv2.LINE_AA, shift=4)
    return canvas


def _mask(points: Array, box: Array) -> Array:
    """Where a crop is repaired, float32 (h, w, 1): 1 on the face, falling to 0 at its contour and the crop's edge."""
    face = cv2.fillPoly(np.zeros(SIZE[::-1], np.float32), _contours(points, box)["oval"], 1.0, shift=4)
    face = cv2.GaussianBlur(cv2.erode(face, np.ones((SEAM + 1,) * 2)), (0, 0), SEAM / 3)
    return face[..., None] * fade_out((0, 0, *SIZE), SEAM)


def _contours(points: Array, box: Array) -> dict[str, list[Array]]:
    """CONTOURS in a crop, in sixteenths of its pixels, as cv2 draws them."""
    places = (points[:, :2] - box[:2]) * SIZE / (box[2:] - box[:2]) - 0.5
    return {name: [np.rint(16 * places[index]).astype(np.int32) for index in of] for name, of in CONTOURS.items()}


def heard(mel: Array) -> Array:
    """What the networks hear at each frame of a window: float32 (T, 80 * 9) of its log-mel (T, 80)."""
    return windows(standardised(mel), HEARD)


@torch.inference_mode()
def repaired(nets: dict, crops: Crops, repair: Repair, *, seed: int = 0) -> Array:
    """The residual float32 (N, h, w, 3), in grey levels, that `Crops.pasted` adds. nets: "predictor" and "refiner".
    All frames share their noise, which moves with the mouth: else every frame's detail would be another one's."""
    device, out = nets[repair.nets[0]].unit.device, []
    noise = torch.randn((repair.samples, 3, *SIZE[::-1]), generator=torch.Generator().manual_seed(seed)).to(device)
    for first in range(0, len(crops.pictures), CHUNK):
        pictures, sound = (torch.from_numpy(a[first : first + CHUNK]).to(device) for a in (crops.pictures, crops.sound))
        pictures = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=FAST or device.type == "cuda"):
            guess = _guess(nets, pictures, sound, predicted=repair.refine.startswith("predict"))
            if repair.refine != "predict":
                seen = torch.cat([pictures, guess], 1)
                guess = guess + _diffused(nets["refiner"], seen, sound, noise=noise, repair=repair)
        if repair.refine == "predict_diffuse":
            guess = guess + SHARPENED / repair.samples * detail(guess)
        out.append(127.5 * (guess - pictures[:, 3:6]).float().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def _guess(nets: dict, pictures: Tensor, sound: Tensor, *, predicted: bool) -> Tensor:
    """What the diffusion begins from (B, 3, h, w): the predictor's picture, or the warped one."""
    if not predicted:
        return pictures[:, :3]
    net = nets["predictor"]
    return pictures[:, 3:6] + net.unit[0] * net(pictures, sound, sound.new_zeros(len(sound))).float()


def _diffused(net: MouthNet, seen: Tensor, sound: Tensor, *, noise: Tensor, repair: Repair) -> Tensor:
    """Mean residual (B, 3, h, w) over the noises (samples, 3, h, w) to the guess, the last of the pictures `seen`."""
    share = (1 - schedule().alphas_cumprod[repair.begin - 1]).sqrt()  # of noise where diffusion begins: from the guess

    def denoise(noisy: Tensor, level: Tensor) -> Tensor:
        return net(torch.cat([seen, noisy], 1), sound, level).float()

    starts = [share * one.expand(len(seen), -1, -1, -1) for one in noise]
    found = torch.stack([sample(denoise, start, steps=repair.steps, begin=repair.begin) for start in starts]).mean(0)
    return net.unit[int(repair.refine == "diffuse")] * found


def detail(pictures: Tensor, sigma: float = DETAIL) -> Tensor:
    """What of pictures (B, C, h, w) is finer than a Gaussian of `sigma` pixels."""
    reach = round(3 * sigma)
    row = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / sigma) ** 2).to(pictures)
    kernel = (row / row.sum()).expand(pictures.shape[1], 1, 1, -1)
    wide = F.pad(pictures, (reach,) * 4, mode="reflect")
    return pictures - F.conv2d(F.conv2d(wide, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))


class Lessons(namedtuple("Lessons", "pictures sound truth")):
    """Frames with their truth: pictures (N, h, w, 9) and sound (N, 80 * 9) as in `Crops`; truth uint8 (N, h, w, 3)."""

    @classmethod
    def of(cls, clip: Clip, track: FaceTrack, mel: Array, *, seed: int = 0) -> Self:
        """Take a random run of 8 to 40 frames out of a clip and warp it anew from the frames beside it.
        Half of the runs are warped to landmarks as a model may say them: too small or large, too early or late."""
        rng, total = np.random.default_rng(seed), len(track.points)
        n = int(rng.integers(8, min(41, total - 3)))
        first = int(rng.integers(1, total - n))
        inside, seen = slice(first, first + n), np.flatnonzero(track.visible)
        stays = seen[(seen < first) | (seen >= first + n)]
        target = _doubtful(rng, track.points)[inside] if rng.random() < 0.5 else track.points[inside]
        ends = [(clip.frames[k], track.points[k]) for k in (first - 1, first + n)]
        library = ([clip.frames[k] for k in stays], track.points[stays]) if rng.random() < 0.9 else None
        kind = {"library": library, "order": rng.choice(["warp_blend", "interpolate_warp"])}
        crops, keep = Crops.of(*ends, target=target, sound=heard(mel)[inside], **kind), track.visible[inside]
        truth = np.stack(list(map(_cut, clip.frames[inside], crops.boxes)))
        return cls(crops.pictures[keep], crops.sound[keep], truth[keep])


def lessons(footage: Iterable[Footage], performances: Iterable = (), *, runs: int = 2) -> list[Lessons]:
    """`runs` lessons of every video in `footage` (each has a path), and of every `Performance` of the presenter."""
    real = (((c := read(f.path)), track(Video(f.path)), log_mel(c.mono16k(), c.fps, c.n_frames)) for f in footage)
    drawn = ((p.clip, p.track, log_mel(p.speech.audio, p.clip.fps, p.clip.n_frames)) for p in performances)
    return [Lessons.of(*one, seed=runs * i + k) for i, one in enumerate(chain(real, drawn)) for k in range(runs)]


def _doubtful(rng: np.random.Generator, points: Array) -> Array:
    """Landmarks (T, 478, 3) whose motion in the head is too small or too large, too early or too late."""
    head, at = Head.fit(points), np.arange(len(points))
    fixed = head.fix(points)
    late = make_interp_spline(at, fixed, k=1)((at + rng.normal(0, 0.7)).clip(0, at[-1]))
    return head.unfix(fixed.mean(0) + np.exp(rng.normal(0, 0.1)) * (late - fixed.mean(0))).astype(np.float32)


def fit_mouth(
    lessons: Sequence, settings: Settings, *, predictor: MouthNet | None = None, init: Dir = None, folder: Dir = None
) -> MouthNet:
    """Train on `Lessons` a predictor or, where a `predictor` is given, its refiner, which learns the residual to the
    warped frames as well (one batch in four). init: weights to start from. folder: as in `training.train`."""
    torch.manual_seed(settings.seed)
    net = MouthNet() if predictor is None else MouthNet((48, 72, 96), inputs=5)
    net = net if init is None else warm_start(net, init)
    weight = torch.from_numpy(fade_out((0, 0, *SIZE), SEAM)[..., 0])

    def batch(rng: np.random.Generator, _: int) -> list[Tensor]:
        return [torch.stack(part) for part in zip(*(_drawn_lesson(rng, lessons) for _ in range(16)))]

    def rest(pictures: Tensor, sound: Tensor, truth: Tensor, *, predicted: bool) -> tuple[Tensor, Tensor]:
        if predictor is None:
            return pictures[:, 3:6], truth - pictures[:, 3:6]
        with torch.no_grad():
            guess = _guess({"predictor": predictor}, pictures, sound, predicted=predicted)
        return guess, detail(truth - guess) if predicted else truth - guess

    def loss(net: MouthNet, batch: list[Tensor]) -> Tensor:
        pictures, sound, truth = batch
        predicted = predictor is None or bool(torch.rand(()) < 0.75)
        guess, clean = rest(pictures, sound, truth, predicted=predicted)
        clean, level = clean / net.unit[int(not predicted)], torch.randint(0, STEPS, (len(sound),), device=sound.device)
        if predictor is None:
            level = torch.zeros_like(level)
        else:
            pictures = torch.cat([pictures, guess, noised(clean, torch.randn_like(clean), level)], 1)
        return (weight.to(truth.device) * (net(pictures, sound, level) - clean).square()).mean() / weight.mean()

    if init is None:  # so that noise of size 1 fits what is to be learned
        parts, there = zip(*(batch(np.random.default_rng(k), k) for k in range(8))), (predictor or net).device
        pictures, sound, truth = (torch.cat(part).to(there) for part in parts)
        for k, predicted in enumerate((True, False)):
            clean = rest(pictures, sound, truth, predicted=predicted)[1]
            net.unit[k] = ((weight.to(there) * clean.square()).mean() / weight.mean()).sqrt()
    return train(net, settings, batch=batch, loss=loss, folder=folder)


def fit_repair(
    footage: Iterable[Footage], settings: Settings, *, others: Iterable, init: Dir, folder: Path
) -> dict[str, MouthNet]:
    """Train predictor and refiner, in folders of their names; arguments are those of `lessons` and `fit_mouth`."""
    settings = replace(settings, lr=5e-4)  # at 1e-3 a network died
    taught, nets = lessons(footage, others), {"predictor": None}
    for name in ("predictor", "refiner"):
        where = {"init": init and init / name, "folder": folder / name}
        nets[name] = fit_mouth(taught, settings, predictor=nets["predictor"], **where)
    return nets


def _drawn_lesson(rng: np.random.Generator, lessons: Sequence[Lessons]) -> list[Tensor]:
    """Pictures (9, h, w), sound and truth (3, h, w) of a random frame, its colours and level changed, half mirrored."""
    lesson = lessons[rng.integers(len(lessons))]
    k, turn = rng.integers(len(lesson.truth)), rng.choice([1, -1])
    gain, lift = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.1, 3)), rng.normal(0, 0.1)
    seen, truth = (np.float32(one[k][:, ::turn]) / 127.5 - 1 for one in (lesson.pictures, lesson.truth))
    seen = np.concatenate([seen[..., :6] * np.tile(gain, 2) + lift, seen[..., 6:]], -1).transpose(2, 0, 1)
    sound = lesson.sound[k] + 0.15 * rng.standard_normal() + 0.1 * rng.standard_normal(lesson.sound.shape[1])
    arrays = seen, sound * (rng.random() > 0.1), (truth * gain + lift).transpose(2, 0, 1)
    return [torch.from_numpy(np.ascontiguousarray(one, np.float32)) for one in arrays]

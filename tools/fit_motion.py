"""Fit the next weights of lip motion, `default` or `stranger`, with recorded voices (see weights/editing/motion.md).

    THLIB_MIRROR=... python tools/fit_motion.py stranger --steps 2400 --out stranger
    THLIB_MIRROR=... python tools/fit_motion.py default --steps 2000 --lr 4e-4 --init DEFAULT --halfway --out default

What was learned is then told to weights of eight bits (float8_e4m3fn), which is how they are shipped.
Beside real footage it learns from presenters who speak in espeak's voices, as `thlib train editing.motion` does, and in
those of recorded people: sentences by flite and festival (their voices are built from recordings; `apt install flite
festival festvox-kdlpc16k`), and the mirror's free recordings of speech, whose words presenters' lips then say.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrize

from thlib import data
from thlib.behaviour import EMOTIONS
from thlib.clip import mono16k
from thlib.diffusion import STEPS, noised
from thlib.editing import context
from thlib.editing.motion import lip_basis
from thlib.errors import SpeechError
from thlib.footage import Footage, grid
from thlib.presenter.corpus import PEOPLE, SPLITS, PresenterCorpus, sentence
from thlib.presenter.speak import curves
from thlib.speech import Speech, align_speech
from thlib.training import RESULT, Settings, warm_start

VOICES = ("awb", "rms", "slt", "kal16", "ked")
FREE = ("jfk.flac", "librispeech_61-70968-0000.flac", "libritts_84_121550.wav", "mfa_acoustic_corpus.wav")


class Recorded(PresenterCorpus):
    """Presenters of the train split, drawn by `rng`, whose lips say a recording."""

    def __init__(self, said: Speech, rng: np.random.Generator):
        super().__init__("train")
        self.said, self.rng = said, rng

    def _spoken(self, index: int) -> tuple:
        rng = self.rng
        identity = int(10 * rng.integers(PEOPLE) + rng.choice(SPLITS[self.split]))
        manner = {"emotion": str(rng.choice(EMOTIONS)), "intensity": float(rng.uniform(0.4, 1.2))}
        manner |= {"style": int(rng.integers(2)), "seed": int(rng.integers(2**31))}
        return identity, self.said, curves(self.said, fps=self.fps, **manner), manner


def spoken(text: str, voice: str, slower: float, path: Path) -> np.ndarray:
    """`text` at 16 kHz (S,) by a voice of flite, or festival's "ked", by `slower` times as long."""
    if voice == "ked":
        lines = ["(voice_ked_diphone)", f"(Parameter.set 'Duration_Stretch {slower:.3f})"]
        given = ["text2wave", *[part for line in lines for part in ("-eval", line)], "-o", str(path)]
    else:
        given = ["flite", "-voice", voice, "--setf", f"duration_stretch={slower:.3f}", "-t", text, "-o", str(path)]
    subprocess.run(given, input=text.encode(), check=True, capture_output=True)
    return _read(path)


def _read(path: Path) -> np.ndarray:
    audio, rate = soundfile.read(path)
    return mono16k(audio.reshape(len(audio), -1), rate)


def recorded(rounds: int) -> Iterator[Footage]:
    """`rounds` sentences in each of VOICES, then the FREE recordings by four presenters for every five seconds."""
    rng = np.random.default_rng(77)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for voice in VOICES:
                text = sentence("train", rng)
                audio = spoken(text, voice, rng.uniform(0.82, 1.12), Path(folder) / "said.wav")
                try:
                    yield Recorded(align_speech(np.pad(audio, (3000, 5000)), text), rng).footage(0)
                except SpeechError as error:
                    print(f"left out, by {voice}: {error}")
    texts = {name: entry.transcript for name, entry in data.manifest("speech").files.items()}
    for name in FREE:
        path = data.path(f"speech/{name}")
        said = align_speech(_read(path), texts[name] or path.with_suffix(".lab").read_text())
        for k in range(int(4 * max(1, len(said.audio) / 16000 / 5))):
            yield Recorded(said, rng).footage(k)


class Rounded(nn.Module):
    """A weight as eight bits hold it, and its gradient as if it were whole."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight (any shape), rounded."""
        return weight + (weight.to(torch.float8_e4m3fn).to(weight.dtype) - weight).detach()


def rounded(net: context.MotionDiffusion, fit: Callable[[context.MotionDiffusion], None]) -> None:
    """Round all matrices of `net` to eight bits; `fit` trains it, by `context._loss`, to say what it said before."""
    whole = copy.deepcopy(net).requires_grad_(False).eval()
    matrices = [(part, n) for part in net.modules() for n, w in part.named_parameters(recurse=False) if w.ndim > 1]
    for part, name in matrices:
        parametrize.register_parametrization(part, name, Rounded())

    def astray(net, sound, clean, real, edit) -> torch.Tensor:
        level = torch.randint(0, STEPS, (len(sound),))
        clean, real = clean.nan_to_num(), net.kept(real, edit)
        given = noised(clean, torch.randn_like(clean), level), level, sound, real, edit
        off = (net.eval()(*given) - whole(*given)) * net.unit * edit[..., None]
        return torch.einsum("btk,klc->btlc", off, lip_basis(net)).square().mean() + 0.02 * off.square().mean()

    with patch.object(context, "_loss", astray):
        fit(net)
    for part, name in matrices:
        parametrize.remove_parametrizations(part, name)


def main() -> None:
    """Fit, and save in the folder of checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", choices=("default", "stranger"))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--presenters", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=170, help="sentences in each of the recorded voices")
    parser.add_argument("--init", type=Path, help="a folder of weights to start from")
    parser.add_argument("--halfway", action="store_true", help="end half-way between --init and what is learned")
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints go, to resume from")
    args = parser.parse_args()
    if args.halfway and args.init is None:
        parser.error("--halfway ends between the weights of --init and what is learned: give --init, too")
    footage = (grid("train") if args.weights == "default" else []) + grid("others")
    corpus = PresenterCorpus("train", n=args.presenters)
    others = [*map(corpus.footage, range(args.presenters)), *recorded(args.rounds)]
    if args.weights == "default":  # who was seen is moved worse by what helps with strangers
        context.WAYS = context.ALONE = 0.1
    net = args.init and warm_start(context.MotionDiffusion(), args.init)
    how = Settings(args.steps, lr=args.lr, weight_decay=0.02, ema=0.998, seed=args.seed, precision="bf16")
    fit = partial(context.fit_diffusion, footage, others=others)
    first = copy.deepcopy(net)
    net = fit(how, net=net, folder=args.out / "whole")
    if args.halfway:
        warm_start(net, {name: (w + first.get_parameter(name)).detach() / 2 for name, w in net.named_parameters()})
    quick = Settings(300, lr=1e-4, weight_decay=0, ema=0.98, seed=args.seed)
    rounded(net, lambda net: fit(quick, net=net, folder=args.out / "rounded"))
    net.trust.fill_(1.0 if args.weights == "default" else 0.5)
    save(net, args.out / "diffusion")


def save(net: context.MotionDiffusion, folder: Path) -> None:
    """Write `net`, matrices with 8 bits and all else with 16, for `from_pretrained`."""
    net.save_config(folder)
    matrices = {name for name, weight in net.named_parameters() if weight.ndim > 1}
    kinds = {name: torch.float8_e4m3fn if name in matrices else torch.float16 for name in net.state_dict()}
    packed = {name: weight.to(kinds[name]).contiguous() for name, weight in net.state_dict().items()}
    save_file(packed, folder / RESULT, {"format": "pt"})
    (folder / RESULT).chmod(0o644)


if __name__ == "__main__":
    main()

"""The one training loop: killed at any moment and started again, it ends in the same weights, on CPUs bit for bit."""

import copy
import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thlib.data import atomic
from thlib.errors import TrainingError

CHECKPOINT, RESULT, LOG = "checkpoint.safetensors", "diffusion_pytorch_model.safetensors", "log.jsonl"


@dataclass(frozen=True)
class Settings:
    """How to train. A checkpoint goes on under the same ones only, but for the last three."""

    steps: int
    lr: float = 1e-3  # the highest: a line leads up to it, another down to 0
    warmup: float = 0.1  # share of the steps on the way up
    weight_decay: float = 0.01
    clip: float = 1.0  # norm of the gradient
    ema: float = 0.999  # decay of the weights' running mean, less in the first steps; 0: the last weights
    precision: str = "no"  # or "bf16"
    seed: int = 0
    device: str = field(default="cpu", compare=False)  # or "cuda": where it trains, and is left; one process
    save_every: float = field(default=60.0, compare=False)  # seconds
    validate_every: int = field(default=100, compare=False)  # steps


def train(
    model: nn.Module, settings: Settings, *, batch: Callable[[np.random.Generator, int], Any],
    loss: Callable[[nn.Module, Any], torch.Tensor], folder: str | Path | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> nn.Module:  # fmt: skip
    """Train `model` by AdamW; it comes back in eval mode, with the running mean of its weights.
    batch: (generator, step) -> tensors, nested at will, random by the generator or torch's global one alone.
    loss: (model in training mode, batch on its device) -> scalar. validate: (model of the mean) -> named numbers.
    folder: keeps the checkpoint, from which the same call goes on, log.jsonl (a row a step: step, loss, lr, seconds,
    validation), and the result, for `from_pretrained` and `warm_start`. TrainingError: a checkpoint of another
    training; a loss or gradient that is not finite (the checkpoint is still the last good one).
    Under `accelerate launch --multi_gpu --num_processes 2` (CPUs: ACCELERATE_USE_CPU=true) they share a folder."""
    from accelerate import Accelerator
    from accelerate.utils import send_to_device
    from tqdm import tqdm

    accelerator = Accelerator(mixed_precision="no")  # it minds the processes; precision is minded below
    rank, processes = accelerator.process_index, accelerator.num_processes
    device = accelerator.device if processes > 1 else torch.device(settings.device)
    whole = nn.Module()  # DDP has to see all of the loss, whichever methods of the model it calls
    whole.model, whole.forward = model.to(device).train(), lambda part: loss(model, part).float()
    whole = accelerator.prepare_model(whole, device_placement=False)
    run = _Run(model, settings, processes=processes, folder=None if folder is None else Path(folder))
    generators = [torch.default_generator, torch.get_device_module(device)][: 1 + (device.type != "cpu")]
    left = range(len(run.rows), settings.steps)
    bar = tqdm(left, initial=left.start, total=left.stop, disable=True if rank else None)
    exact = sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()  # fused gradients were NaN
    with exact, torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in bar:
            key = (settings.seed, step, rank)  # decides all that is random: a checkpoint needs no random states
            for generator in generators:  # torch.manual_seed would take ten times as long
                generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            part = send_to_device(batch(np.random.default_rng(key), step), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                value = whole(part)
            run.descend(value, accelerator.reduce(value.detach(), "mean").item())
            bar.set_postfix_str(f"loss {np.mean([row['loss'] for row in run.rows[-10:]]):.4g}", refresh=False)
            if rank == 0:
                run.keep(validate)
    accelerator.wait_for_everyone()
    model.load_state_dict(run.mean.state_dict())
    return model.eval()


def warm_start(model: nn.Module, weights: str | Path | Mapping[str, torch.Tensor]) -> nn.Module:
    """Give `model` the weights of its names in a state dict, or in a folder of `train` or `save_pretrained`.
    TrainingError where no name fits or a shape differs; weights that are not given stay as they are."""
    if not isinstance(weights, Mapping):  # a result counts more than a checkpoint beside it
        found = [_load(file)[0] for file in sorted(Path(weights).glob("*.safetensors"))]
        weights = {name.removeprefix("mean."): t for tensors in found for name, t in tensors.items()}
    pairs = {name: (weights[name], own) for name, own in model.state_dict().items() if name in weights}
    odd = [f"{name} is {[*t.shape]}, not {[*own.shape]}" for name, (t, own) in pairs.items() if t.shape != own.shape]
    if odd or not pairs:
        raise TrainingError(f"these weights do not fit: {(odd or ['no name agrees'])[0]}; give those of such a network")
    for tensor, own in pairs.values():
        own.copy_(tensor)
    return model


class _Run:
    """What training changes: `tensors`, and `rows`, one a step; `kind` is what a checkpoint must share with it."""

    def __init__(self, model: nn.Module, settings: Settings, *, processes: int, folder: Path | None):
        self.model, self.settings, self.folder, self.rows = model, settings, folder, []
        self.mean = copy.deepcopy(model, {id(buffer): buffer for buffer in model.buffers()}).eval()  # the same buffers
        self.named = {name: w for name, w in model.named_parameters() if w.requires_grad}
        self.optimiser = torch.optim.AdamW(self.named.values(), weight_decay=settings.weight_decay, fused=True)
        self.tensors = nn.ModuleDict({"weights": model, "mean": self.mean}).state_dict()
        for name, w in self.named.items():  # as AdamW's first step would
            moments = {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
            self.optimiser.state[w] = moments | {"step": torch.zeros((), device=w.device)}
            self.tensors |= {f"{key}.{name}": t for key, t in self.optimiser.state[w].items()}
        self.kind = {f.name: getattr(settings, f.name) for f in fields(settings) if f.compare}
        self.kind |= {"processes": processes} | {name: [*t.shape] for name, t in self.tensors.items()}
        self.began = self.saved = time.monotonic()
        if folder is None or not (folder / CHECKPOINT).is_file():
            return
        found, told = _load(folder / CHECKPOINT)
        there, here = told.get("kind", {}), self.kind
        if odd := [f"{k} is {there.get(k)}, not {here.get(k)}" for k in here | there if there.get(k) != here.get(k)]:
            what = f"{folder / CHECKPOINT} is of another training ({', '.join(odd[:3])})"
            raise TrainingError(f"{what}: give its settings and model to go on, or another folder to start anew")
        for name, tensor in self.tensors.items():
            tensor.copy_(found[name])
        self.rows, self.began = told["rows"], self.began - told["rows"][-1]["seconds"]

    def descend(self, loss: torch.Tensor, joint: float) -> None:
        """Take a step down the loss of this process; joint: the mean loss of all processes."""
        s, step = self.settings, len(self.rows)
        lr = float(np.interp(step + 1, [0, s.warmup * s.steps, s.steps + 1], [0, s.lr, 0]))
        self.optimiser.param_groups[0]["lr"] = lr
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.named.values(), s.clip).item()
        if not np.isfinite(joint + norm):
            what = f"step {step} has the loss {joint:.4g} and a gradient of norm {norm:.4g}"
            raise TrainingError(f"{what}: look at its batch, or train with a lower lr in another folder")
        self.optimiser.step()
        self.optimiser.zero_grad()
        mean, new = ([self.tensors[f"{part}.{name}"] for name in self.named] for part in ("mean", "weights"))
        torch._foreach_lerp_(mean, new, max(1 - s.ema, 9 / (step + 10)))
        self.rows.append({"step": step + 1, "loss": joint, "lr": lr, "seconds": time.monotonic() - self.began})

    def keep(self, validate: Callable | None) -> None:
        """Validate, and write log, result and checkpoint, where they are due."""
        s, last = self.settings, len(self.rows) == self.settings.steps
        if validate is not None and (last or len(self.rows) % s.validate_every == 0):
            self.rows[-1] |= {name: float(value) for name, value in validate(self.mean).items()}
        if self.folder is None or not (last or time.monotonic() - self.saved >= s.save_every):
            return
        for half in self.folder.glob("*.partial"):  # of a run that was killed while it wrote
            half.unlink()
        files = {LOG: "".join(json.dumps(row) + "\n" for row in self.rows).encode()}
        if last:
            files["config.json"] = getattr(self.model, "to_json_string", "{}".strip)().encode()
            files[RESULT] = _packed(self.mean.state_dict())
        files[CHECKPOINT] = _packed(self.tensors, kind=self.kind, rows=self.rows)
        for name, content in files.items():
            with atomic(self.folder / name) as half:
                half.write_bytes(content)
        self.saved = time.monotonic()


def _packed(tensors: Mapping[str, torch.Tensor], **told: Any) -> bytes:
    whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    return save(whole, {"training": json.dumps(told)} if told else {"format": "pt"})


def _load(file: Path) -> tuple[dict[str, torch.Tensor], dict]:
    try:
        with safe_open(file, "pt") as stored:
            told = json.loads((stored.metadata() or {}).get("training", "{}"))
            return {name: stored.get_tensor(name) for name in stored.offset_keys()}, told
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"{file} cannot be read ({error}): delete it to start anew, or give another") from error

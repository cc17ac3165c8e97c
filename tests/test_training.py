"""The training loop: it equals a bare one, survives kills, refuses what does not fit, and is one over processes."""

import copy
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, require
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file
from torch import nn

from thlib.errors import TrainingError
from thlib.training import CHECKPOINT, LOG, RESULT, Settings, train, warm_start


class Net(ModelMixin, ConfigMixin):
    """A model with dropout (random), batch norm (buffers) and a frozen part, called by a method of its own."""

    @register_to_config
    def __init__(self, width: int = 16):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(0.3))
        self.last = nn.Linear(width, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def guess(self, x):
        return self.last(self.net(x)) * self.frozen


def make(width=16):
    torch.manual_seed(0)
    return Net(width)


def batch(rng, _):
    x = torch.from_numpy(rng.normal(size=(16, 8)).astype(np.float32))
    return {"x": x, "y": x[:, :1] * x[:, 1:2]}


def loss(net, batch):
    return (net.guess(batch["x"] + 0.1 * torch.randn_like(batch["x"])) - batch["y"]).square().mean()


go = partial(train, batch=batch, loss=loss)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def rows(folder):
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def stop_at(step):
    """A batch that fails at a step, as a power cut would."""

    def draw(rng, at):
        if at == step:
            raise KeyboardInterrupt
        return batch(rng, at)

    return draw


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- what it computes -------------------------------------------------------------------------------------------------


def test_it_is_the_bare_loop():
    """AdamW, the line up and down, clipping, and the mean by its definition: bit for bit."""
    s = Settings(30, lr=0.01, warmup=0.2, weight_decay=0.1, clip=0.5, ema=0.9, seed=3)
    bare = make().train()
    mean = copy.deepcopy(bare)
    weights = [w for w in bare.parameters() if w.requires_grad]
    optimiser = torch.optim.AdamW(weights, weight_decay=0.1, fused=True)
    for step in range(30):
        optimiser.param_groups[0]["lr"] = 0.01 * min((step + 1) / 6, (30 - step) / 25)
        torch.manual_seed(int(np.random.SeedSequence((3, step, 0)).generate_state(1)[0]))
        loss(bare, batch(np.random.default_rng((3, step, 0)), step)).backward()
        nn.utils.clip_grad_norm_(weights, 0.5)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            decay = min(0.9, (1 + step) / (10 + step))
            for kept, new in zip(mean.parameters(), bare.parameters()):
                kept.lerp_(new, 1 - decay)
            for kept, new in zip(mean.buffers(), bare.buffers()):
                kept.copy_(new)
    trained = go(make(), s)
    for name, tensor in mean.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    assert not trained.training
    assert equal(go(make(), replace(s, ema=0)), bare)  # without a mean, the last weights


def test_it_finds_a_known_minimum():
    """Noisy samples of a line, its slope found; midway the running mean is nearer to it than the weights are."""
    truth = torch.tensor([[2.0, -1.0, 0.5]])

    def draw(rng, _):
        x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
        return x, x @ truth.T + torch.from_numpy(rng.normal(size=(8, 1)).astype(np.float32))

    def square(net, pair):
        return (net(pair[0]) - pair[1]).square().mean()

    def validate(net):
        errors.append((net.weight - truth).norm().item())
        return {}

    ends, errors = [], []
    for ema in (0.98, 0.0):
        s = Settings(600, lr=0.05, weight_decay=0, ema=ema, validate_every=10)
        net = train(nn.Linear(3, 1, bias=False), s, batch=draw, loss=square, validate=validate)
        ends.append((net.weight - truth).norm().item())
    mean, last = np.reshape(errors, (2, 60))
    assert max(ends) < 0.1
    assert mean[20:50].mean() < 0.7 * last[20:50].mean()


def test_the_rate_is_a_line_up_and_a_line_down(tmp_path):
    go(make(), Settings(50, lr=2.0, warmup=0.2), folder=tmp_path)
    rates = [row["lr"] for row in rows(tmp_path)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == max(rates) == pytest.approx(2.0)
    assert 0 < rates[-1] < 0.06
    assert np.ptp(np.diff(rates[:10])) < 1e-9
    assert np.ptp(np.diff(rates[9:])) < 1e-9
    go(make(), Settings(2, lr=2.0, warmup=0.0), folder=tmp_path / "no rise")
    assert [row["lr"] for row in rows(tmp_path / "no rise")] == pytest.approx([4 / 3, 2 / 3])
    go(make(), Settings(1), folder=tmp_path / "one")
    assert rows(tmp_path / "one")[0]["lr"] > 0


def test_the_seed_decides_all_and_nothing_outside_is_touched():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = go(make(), Settings(20))
    torch.set_rng_state(before)
    net = make()
    torch.manual_seed(99)
    inside = torch.get_rng_state()
    assert equal(go(net, Settings(20)), first)
    assert torch.equal(torch.get_rng_state(), inside)
    assert not equal(go(make(), Settings(20, seed=1)), first)


def test_precision_is_used_and_comes_out_near():
    seen = []

    def watched(net, batch):
        seen.append(net.last(net.net(batch["x"])).dtype)
        return loss(net, batch)

    net = train(make(), Settings(60, lr=0.01, precision="bf16"), batch=batch, loss=watched)
    assert set(seen) == {torch.bfloat16}
    full = go(make(), Settings(60, lr=0.01))
    assert not equal(net, full)
    assert (net.last.weight - full.last.weight).norm() < 0.25 * full.last.weight.norm()
    assert net.last.weight.dtype == torch.float32


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_it_goes_on_bit_for_bit(precision, tmp_path):
    s = Settings(40, lr=0.01, precision=precision, save_every=0)

    def large(net, batch):
        return 1000 * loss(net, batch)

    whole = train(make(), s, batch=batch, loss=large, folder=tmp_path / "whole")
    for step in (1, 3, 25):
        with pytest.raises(KeyboardInterrupt):
            train(make(), s, batch=stop_at(step), loss=large, folder=tmp_path / "cut")
        assert load_file(tmp_path / "cut" / CHECKPOINT)["step.last.bias"] <= step
    torch.manual_seed(123)
    cut = train(Net(), s, batch=batch, loss=large, folder=tmp_path / "cut")  # its first weights don't matter
    assert equal(whole, cut)
    told = [[row | {"seconds": 0} for row in rows(tmp_path / name)] for name in ("whole", "cut")]
    assert told[0] == told[1]
    seconds = [row["seconds"] for row in rows(tmp_path / "cut")]
    assert seconds == sorted(seconds)


def test_a_finished_training_comes_back_at_once(tmp_path):
    first = go(make(), Settings(10), folder=tmp_path)

    def never(*_):
        raise AssertionError

    assert equal(train(make(), Settings(10), batch=never, loss=never, folder=tmp_path), first)


SCRIPT = """
import sys, torch
from torch import nn
from thlib.training import Settings, train
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 600), nn.BatchNorm1d(600), nn.GELU(), nn.Dropout(0.5), nn.Linear(600, 64))
def batch(rng, step):
    return torch.from_numpy(rng.normal(size=(32, 64)).astype("float32"))
def loss(net, x):
    return (net(x + 0.1 * torch.randn_like(x)) - x.roll(1, 1)).square().mean()
train(net, Settings(300, save_every=float(sys.argv[2])), batch=batch, loss=loss, folder=sys.argv[1])
"""


def start(folder, save_every):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(save_every)], env=env, cwd=ROOT)


def test_killed_again_and_again_it_ends_in_the_same_weights(tmp_path):
    """kill -9 at random moments, while a checkpoint is written after every step; none is ever half."""
    assert start(tmp_path / "whole", 60).wait(300) == 0
    moments, reached, cut = random.Random(), [0], tmp_path / "cut" / CHECKPOINT
    for _ in range(3):
        before = cut.stat().st_mtime_ns if cut.exists() else 0
        process = start(cut.parent, 0)
        while process.poll() is None and (not cut.exists() or cut.stat().st_mtime_ns == before):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        reached.append(int(load_file(cut)["step.0.bias"]))
    assert reached == sorted(set(reached))
    assert reached[-1] < 300
    assert start(cut.parent, 0).wait(300) == 0
    assert (cut.parent / RESULT).read_bytes() == (tmp_path / "whole" / RESULT).read_bytes()
    assert sorted(file.name for file in cut.parent.iterdir()) == sorted([CHECKPOINT, RESULT, LOG, "config.json"])


def test_a_half_written_checkpoint_never_has_its_name(tmp_path, monkeypatch):
    """The last good one stays where writing the next fails."""
    s = Settings(10, save_every=0)
    with pytest.raises(KeyboardInterrupt):
        train(make(), s, batch=stop_at(5), loss=loss, folder=tmp_path)
    good = (tmp_path / CHECKPOINT).read_bytes()
    real = Path.write_bytes

    def full_disk(self, content):
        real(self, content[: len(content) // 2])
        if CHECKPOINT in self.name:
            raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="No space"):
            go(make(), s, folder=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    (tmp_path / f"{CHECKPOINT}.99.partial").write_bytes(good[:100])  # left by a kill
    assert equal(go(make(), s, folder=tmp_path), go(make(), s))
    assert not list(tmp_path.glob("*.partial"))


def test_another_training_is_refused_in_a_sentence(tmp_path):
    s = Settings(10, lr=0.01, save_every=0)
    with pytest.raises(KeyboardInterrupt):
        train(make(), s, batch=stop_at(5), loss=loss, folder=tmp_path)
    good = (tmp_path / CHECKPOINT).read_bytes()
    cases = [
        (
            make(),
            replace(s, lr=0.02),
            r"another training \(lr is 0.01, not 0.02\): give its settings .* or another folder",
        ),
        (make(), replace(s, steps=20, seed=1), r"steps is 10, not 20, seed is 0, not 1"),
        (make(width=8), s, r"net.0.weight is \[16, 8\], not \[8, 8\]"),
        (nn.Linear(8, 1), s, r"weights.weight is None"),
        (nn.Sequential(make(), nn.Linear(1, 1)), s, "tensors"),
    ]
    for net, settings, words in cases:
        with pytest.raises(TrainingError, match=words) as told:
            go(net, settings, folder=tmp_path)
        assert "\n" not in str(told.value)
    thawed = make()
    thawed.frozen.requires_grad_(True)
    with pytest.raises(TrainingError, match="tensors"):
        go(thawed, s, folder=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    go(make(), replace(s, save_every=7, validate_every=3), folder=tmp_path)  # these two may change


@pytest.mark.parametrize("spoil", [lambda b: b[:-10], lambda b: b[:100], lambda b: b"", lambda b: b"x" * 99])
def test_a_spoilt_checkpoint_is_refused_in_a_sentence(spoil, tmp_path):
    go(make(), Settings(3), folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(spoil((tmp_path / CHECKPOINT).read_bytes()))
    with pytest.raises(TrainingError, match="checkpoint.safetensors cannot be read .*delete it"):
        go(make(), Settings(3), folder=tmp_path)


def test_weights_that_are_no_checkpoint_are_refused(tmp_path):
    make().save_pretrained(tmp_path)
    (tmp_path / RESULT).rename(tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="another training"):
        go(make(), Settings(3), folder=tmp_path)


# --- what can go wrong, the log, the result ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_what_is_not_finite_stops_it_before_it_spoils_anything(fault, tmp_path):
    def faulty(net, batch):
        value = loss(net, batch)
        if batch["step"] < 7:
            return value
        # The root of 0 is finite, its slope is not.
        return value * math.nan if fault == "loss" else value + (0 * net.last.weight).sum().sqrt()

    def numbered(rng, step):
        return batch(rng, step) | {"step": step}

    s = Settings(20, save_every=0)
    net = make()
    with pytest.raises(TrainingError, match=r"step 7 has the loss .*norm nan: look at its batch, or .* lower lr"):
        train(net, s, batch=numbered, loss=faulty, folder=tmp_path)
    stored = load_file(tmp_path / CHECKPOINT)
    assert int(stored["step.last.bias"]) == 7
    assert all(tensor.isfinite().all() for tensor in stored.values())
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_the_log_has_a_row_a_step_and_what_validation_says(tmp_path):
    seen = []

    def validate(net):
        seen.append(net.training)
        torch.manual_seed(5)  # what it draws does not matter
        return {"width": np.float32(net.net(torch.zeros(4, 8)).shape[1])}

    s = Settings(25, lr=0.01, validate_every=10)
    net = go(make(), s, folder=tmp_path, validate=validate)
    log = rows(tmp_path)
    assert [row["step"] for row in log] == list(range(1, 26))
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert [row["step"] for row in log if "width" in row] == [10, 20, 25]
    assert seen == [False] * 3
    assert equal(net, go(make(), s))


def test_the_bar_shows_the_loss_on_a_terminal_only(capsys, monkeypatch):
    go(make(), Settings(5))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    go(make(), Settings(5))
    assert "5/5" in (told := capsys.readouterr().err)
    assert "loss" in told


def test_the_result_is_a_pretrained_model(tmp_path):
    net = go(make(), Settings(5), folder=tmp_path)
    assert equal(Net.from_pretrained(tmp_path), net)
    assert {"step.last.bias", "mean.last.bias", "exp_avg.last.bias"} < set(load_file(tmp_path / CHECKPOINT))
    odd = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # not contiguous
    tied = nn.ModuleDict({"a": odd, "b": odd})  # one tensor, two names
    images = partial(batch_of_images, 4)
    train(tied, Settings(3), batch=images, loss=lambda net, x: net["b"](x).square().mean(), folder=tmp_path / "odd")
    again = warm_start(nn.ModuleDict({"a": nn.Conv2d(3, 4, 3)}), tmp_path / "odd")
    assert torch.equal(again["a"].weight, tied["a"].weight)


def batch_of_images(n, rng, _):
    return torch.from_numpy(rng.normal(size=(n, 3, 8, 8)).astype(np.float32))


# --- other first weights ----------------------------------------------------------------------------------------------


def test_warm_start_takes_folders_and_state_dicts(tmp_path):
    trained = go(make(), Settings(5), folder=tmp_path / "done")
    assert equal(warm_start(Net(), tmp_path / "done"), trained)
    assert equal(warm_start(Net(), str(tmp_path / "done")), trained)
    with pytest.raises(KeyboardInterrupt):
        train(make(), Settings(9, save_every=0, ema=0.5), batch=stop_at(4), loss=loss, folder=tmp_path / "cut")
    mean = load_file(tmp_path / "cut" / CHECKPOINT)["mean.last.weight"]
    assert torch.equal(warm_start(Net(), tmp_path / "cut").last.weight, mean)
    copy.deepcopy(trained).half().save_pretrained(tmp_path / "half")
    half = warm_start(Net(), tmp_path / "half")
    assert half.last.weight.dtype == torch.float32
    assert torch.equal(half.last.weight, trained.last.weight.half().float())
    net = Net()
    kept = net.last.weight.clone()
    assert warm_start(net, {"net.0.bias": torch.ones(16), "of another": torch.ones(3)}) is net
    assert torch.equal(net.net[0].bias, torch.ones(16))
    assert torch.equal(net.last.weight, kept)


def test_warm_start_refuses_what_does_not_fit_and_changes_nothing(tmp_path):
    go(make(), Settings(3), folder=tmp_path)
    narrow = make(width=8)
    before = copy.deepcopy(narrow)
    with pytest.raises(TrainingError, match=r"net.0.weight is \[16, 8\], not \[8, 8\]; give"):
        warm_start(narrow, tmp_path)
    assert equal(narrow, before)
    for nothing in ({"a": torch.ones(1)}, tmp_path / "absent"):
        with pytest.raises(TrainingError, match="no name agrees"):
            warm_start(narrow, nothing)
    (tmp_path / RESULT).write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match="cannot be read"):
        warm_start(make(), tmp_path)


# --- processes and connections ----------------------------------------------------------------------------------------

LAUNCHED = """
import os, sys, torch
sys.path.insert(0, "tests")
from test_training import launched
launched(sys.argv[1])
"""


def pair(rng, step):
    """What both processes draw together."""
    seed, _, _ = rng.bit_generator.seed_seq.entropy
    parts = [batch(np.random.default_rng((seed, step, rank)), step) for rank in (0, 1)]
    return {key: torch.cat([part[key] for part in parts]) for key in ("x", "y")}


def smooth(net, batch):
    return (net.last(net.net[2](net.net[0](batch["x"]))) - batch["y"]).square().mean()


JOINT = Settings(40, lr=0.01, save_every=0, seed=5)


def launched(folder):
    """One process of two: other first weights in each, and a method that is not `forward`."""
    torch.manual_seed(int(os.environ["RANK"]))
    net = nn.Module()
    net.net, net.last = nn.Sequential(nn.Linear(8, 16), nn.Identity(), nn.GELU()), nn.Linear(16, 1)
    train(net, JOINT, batch=batch, loss=smooth, folder=f"{folder}/run")
    torch.save(net.state_dict(), f"{folder}/rank{os.environ['RANK']}.pt")


def test_two_processes_are_one_with_the_joint_batch(tmp_path):
    """Launched by accelerate, cut off from all but loopback where the system can."""
    import runner

    (tmp_path / "script.py").write_text(LAUNCHED)
    flags = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags, "--main_process_port=0"]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    env |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*runner._cut_off(), *command, str(tmp_path / "script.py"), str(tmp_path)],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(0)
    net = nn.Module()
    net.net, net.last = nn.Sequential(nn.Linear(8, 16), nn.Identity(), nn.GELU()), nn.Linear(16, 1)
    alone = train(net, JOINT, batch=pair, loss=smooth, folder=tmp_path / "alone")
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)
    told = [[row["loss"] for row in rows(tmp_path / name)] for name in ("run", "alone")]
    np.testing.assert_allclose(*told, rtol=1e-4)
    with pytest.raises(TrainingError, match="processes is 2, not 1"):
        train(net.train(), JOINT, batch=pair, loss=smooth, folder=tmp_path / "run")


def test_training_opens_no_connection(tmp_path):
    tools = shutil.which("strace") and shutil.which("unshare")
    free = tools and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    require("namespace", bool(free), "strace and unshare -rn are needed")
    log = tmp_path / "calls.txt"
    watch = ["strace", "-f", "-o", log, "-e", "trace=connect,openat", "unshare", "-rn"]
    code = SCRIPT.replace("300", "3")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*watch, sys.executable, "-c", code, str(tmp_path / "run"), "0"], check=True, timeout=300, env=env)
    calls = log.read_text().splitlines()
    assert sum("openat" in call for call in calls) > 100
    assert not [call for call in calls if "connect(" in call and "AF_INET" in call]

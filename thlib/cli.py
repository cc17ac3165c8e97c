"""The command line, `thlib --help`. An error is one sentence on stderr and exit code 2."""

# No `from __future__ import annotations`: typer reads the hints as they are.
import importlib
import sys
import tempfile
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

import thlib
from thlib import data as sets
from thlib.errors import CourseError, EditError, MediaError, SpeechError, ThlibError, TrainingError

ROOT = Path(__file__).resolve().parents[1]  # of a clone
BESIDE = (".vtt", ".provenance.json")  # what is written beside an edited video
SETTINGS = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(help="Talking-head generation, taught and implemented.", **SETTINGS)
data = typer.Typer(help="Data sets: what there is, what is here, what to fetch, mirror or delete.", **SETTINGS)
presenter = typer.Typer(help="The presenter, a synthetic person.", **SETTINGS)
app.add_typer(data, name="data")
app.add_typer(presenter, name="presenter")

Names = Annotated[list[str] | None, typer.Argument(help="default: all")]
Emotion = Annotated[str, typer.Option(help="angry, disgust, fear, happy, neutral, sad or surprise")]
Intensity = Annotated[float, typer.Option(help="of the emotion, 0 to 1.5")]
Identity = Annotated[int, typer.Option(help="which presenter")]
Made = Annotated[Path, typer.Option("--out", "-o", help="the new video (.mp4)")]
Badge = Annotated[bool, typer.Option(help="the visible mark on generated frames")]


def main() -> None:
    """Run the command line: exit code 0, 1 where a check failed, 2 for what the user can mend."""
    try:
        raise SystemExit(app(standalone_mode=False) or 0)
    except typer.TyperException as error:  # how it was called
        told = f"{error.format_message().rstrip('.')}; see --help" if error.format_message() else ""
    except (ThlibError, OSError) as error:
        told = str(error)
    sys.stderr.write(told and f"thlib: {' '.join(told.split())}\n")
    raise SystemExit(2)


@app.command()
def edit(
    video: Annotated[Path, typer.Argument(help="the video to edit")],
    out: Made,
    transcript: Annotated[Path | None, typer.Option(help="its words: text, .align, .TextGrid (that beside it)")] = None,
    replace: Annotated[list[str], typer.Option(help='"now=soon"; "f#2=g" for the second f')] = [],  # noqa: B006
    insert: Annotated[list[str], typer.Option(help='"f=>very": after f; "=>well": at the start')] = [],  # noqa: B006
    delete: Annotated[list[str], typer.Option(help='"bin"')] = [],  # noqa: B006
    text: Annotated[Path | None, typer.Option(help="the whole edited text, instead of single edits")] = None,
    sound: Annotated[Path | None, typer.Option(help="a recording that contains the new words")] = None,
    sound_text: Annotated[str, typer.Option(help="what it says; default: the edited text")] = "",
    exact: Annotated[bool, typer.Option(help="lossless: 5 to 10 times the bytes, some players refuse it")] = False,
    badge: Badge = True,
    seed: int = 0,
    method: Annotated[str, typer.Option(help="diffusion (drawn by --seed) or classic")] = "diffusion",
    lips: Annotated[str | None, typer.Option(help="what moves them, if not the method: regressor, ridge")] = None,
) -> None:
    """Change the words of a talking video; what lies outside of the edit stays as it is.

    thlib edit talk.mp4 --transcript t.txt --replace "now=soon" --insert "f=>very" --delete "bin" -o out.mp4"""
    if text and (replace or insert or delete):
        raise EditError("--text was given together with single edits: give the whole edited text, or edits of words")
    if sound_text and not sound:
        raise EditError("--sound-text was given without --sound: give the recording that says it, or leave both out")
    if not transcript and not (transcript := video.with_suffix(".TextGrid")).is_file():
        raise SpeechError(f"the words of {video} are not known: give its text with --transcript")
    _check_out(out, [file for file in (video, transcript, text, sound) if file])
    shown = {"desc": "reading the words", "bar_format": "{desc:<24}{bar}{elapsed}", "disable": None}  # None: a terminal
    with tqdm(total=4, **shown) as bar, warnings.catch_warnings(record=True) as doubts:
        source = thlib.clip.Video(video)
        if source.missing:
            raise MediaError(f"{video} is cut off, {source.missing} of its frames are missing: give the whole file")
        words = _words(source, transcript)
        commands = {"replace": replace, "insert": insert, "delete": delete}
        edited = _text(text) if text else thlib.editing.script.apply(words, **commands)
        _step(bar, "listening to the sound" if sound else "editing")
        heard = sound and thlib.speech.align_speech(thlib.clip.read_sound(sound), sound_text or edited)
        _step(bar, "editing")
        editor = thlib.editing.TextEditPipeline.from_pretrained(lips=lips)
        result = editor(source, words, edited, speech=heard, seed=seed, method=method)
        _step(bar, "writing")
        result.save(out, exact=exact, badge=badge)
        _step(bar, "done")
    for note in (*source.notes, *(doubt.message for doubt in doubts), *result.notes):
        typer.echo(note)
    spans = ", ".join(f"{start:.2f}-{end:.2f} s" for start, end in result.spans)
    typer.echo(f"{out}: generated {spans}; the rest is the recording")
    typer.echo("with " + " and ".join(str(out.with_suffix(end)) for end in BESIDE))


@app.command()
def animate(
    speech: Annotated[Path, typer.Argument(help="a sound file, or a video with sound")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Live Link Face (.csv), EmoFace (.txt), or video (.mp4)")],
    emotion: Emotion = "neutral",
    intensity: Intensity = 1.0,
    identity: Identity = 0,
    seed: int = 0,
    portrait: Annotated[Path | None, typer.Option(help="the picture that speaks in an .mp4; or a presenter")] = None,
    fps: Annotated[float, typer.Option(help="frames a second; default: 60, of an .mp4 25")] = 0,
) -> None:
    """Curves of a face rig from speech and an emotion, with blinks, gaze and head motion; or a face that follows them.

    thlib animate speech.wav --emotion happy -o talk.csv"""
    kinds, video = (".csv", ".txt", ".mp4"), out.suffix.lower() == ".mp4"
    if out.suffix.lower() not in kinds or (portrait and not video):
        needed = "an .mp4, since a portrait was given" if portrait else f"a file ending in {', '.join(kinds)}"
        raise MediaError(f"{out} was named as the result: name {needed}")
    _check_out(out, [file for file in (speech, portrait) if file], kinds)
    if fps and not 1 <= fps <= 240:
        raise MediaError(f"{fps:g} frames a second were asked for: choose 1 to 240, or leave --fps out")
    sound = thlib.clip.read_sound(speech)
    rate = Fraction(fps or (25 if video else 60)).limit_denominator(1001)
    rig = thlib.emoface.EmoFacePipeline.from_pretrained()
    curves = rig(sound, emotion, intensity=intensity, seed=seed, fps=rate)
    if not video:
        curves.save(out)
    else:
        from thlib.presenter.speak import perform

        acted = perform(identity, curves, sound)
        with tempfile.TemporaryDirectory() as folder:  # a portrait follows the presenter
            made = acted.save(Path(folder) / "presenter.mp4" if portrait else out)
            if portrait:
                thlib.ostnet.OSTNetPipeline.from_pretrained().save(out, portrait, driving=thlib.clip.Video(made))
    typer.echo(f"{out}: {len(curves.values)} frames at {float(rate):g} frames/s, {emotion}")


@app.command()
def reenact(
    portrait: Annotated[Path, typer.Argument(help="a picture with a face: photograph, painting")],
    driving: Annotated[Path, typer.Argument(help="the video whose motion it follows")],
    out: Made,
    mode: Annotated[str, typer.Option(help="classic, closed_form, absolute, relative or best_frame")] = "classic",
    face: Annotated[int | None, typer.Option(help="which face of several, counted from the left from 0")] = None,
    badge: Badge = True,
) -> None:
    """Let a portrait follow another person's video, with its sound, at the portrait's size.

    thlib reenact portrait.jpg driving.mp4 -o out.mp4"""
    _check_out(out, [portrait, driving])
    source, reenactment = thlib.clip.Video(driving), thlib.ostnet.OSTNetPipeline.from_pretrained()
    reenactment.save(out, portrait, driving=source, mode=mode, face=face, badge=badge)
    for note in source.notes:
        typer.echo(note)
    typer.echo(f"{out}: {source.n_frames} generated frames, with {out.with_suffix('.provenance.json')}")


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="editing.motion (diffusion), editing.frames or editing.regressor")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the weights; training goes on from there")],
    videos: Annotated[list[Path] | None, typer.Argument(help="people talking (.TextGrid beside), or GRID")] = None,
    steps: int = 800,
    init: Annotated[Path | None, typer.Option(help="folder of weights to start from")] = None,
    presenters: Annotated[int, typer.Option(help="presenters to learn from too, but for the regressor")] = 100,
    seed: int = 0,
) -> None:
    """Train a model; killed and called again, it goes on where it was. `accelerate launch` serves several processes.

    thlib train editing.motion -o weights --steps 3000    # then TextEditPipeline.from_pretrained("weights")"""
    if model not in (known := ("editing.motion", "editing.frames", "editing.regressor")):
        raise TrainingError(f"there is no model {model!r} to train: take one of {', '.join(known)}")
    from torch import cuda

    from thlib import footage
    from thlib.presenter.corpus import PresenterCorpus

    told = {video: video.with_suffix(".TextGrid") for video in videos or ()}
    own = [footage.load(v, _words(thlib.clip.Video(v), t) if t.is_file() else ()) for v, t in told.items()]
    clips = own or [*footage.grid("train"), *footage.grid("others")]
    corpus, drawn = PresenterCorpus("train", n=presenters), tqdm(range(presenters), "presenters", disable=None)
    device = "cuda" if cuda.is_available() else "cpu"
    kind = {"precision": "bf16" if thlib.editing.refine.FAST or device == "cuda" else "no", "seed": seed}
    settings = thlib.training.Settings(steps, weight_decay=0.02, ema=0.998, device=device, **kind)
    if model == "editing.regressor":
        thlib.editing.motion.fit_regressor(clips, steps=steps, seed=seed, folder=out / "regressor", init=init)
    elif model == "editing.motion":
        context = thlib.editing.context
        net = thlib.training.warm_start(context.MotionDiffusion(), init) if init else None
        context.fit_diffusion(clips, settings, others=map(corpus.footage, drawn), net=net, folder=out / "diffusion")
    else:
        thlib.editing.refine.fit_repair(clips, settings, others=map(corpus.performance, drawn), init=init, folder=out)
    typer.echo(f"{out}: {model}, {steps} steps on {len(clips)} clips")


@app.command()
def verify(file: Path) -> None:
    """Print what an edited file says of itself; exit code 1 if its marks contradict one another or are incomplete."""
    report = thlib.provenance.verify(file)
    typer.echo(str(report))
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, a sentence each; exit code 1 if anything is."""
    complaints = list(_tool("doctor").complaints())
    typer.echo("\n".join(complaints or ["Nothing is missing."]))
    raise typer.Exit(1 if complaints else 0)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def course(context: typer.Context) -> None:
    """The notebooks: list them, run them, and write the report; `thlib course --help`."""
    raise typer.Exit(_tool("notebooks").app(context.args, prog_name="thlib course", standalone_mode=False) or 0)


@data.command("list")
def list_sets() -> None:
    """All data sets with size, licence and consent."""
    for name in sets.names():
        known = sets.manifest(name)
        size = f"{sum(file.bytes or 0 for file in known.files.values()) / 1e6:.0f} MB" if known.files else known.size
        typer.echo(f"{name}: {known.title} · {len(known.files)} files, {size} · {known.licence}", nl=False)
        typer.echo(f" · may be edited: {known.consent.edit}, shown: {known.consent.publish}")


@data.command()
def status(names: Names = None) -> None:
    """How many files of each data set are in the cache, in the mirror, absent."""
    for name in names or sets.names():
        places = list(sets.status(name).values())
        counts = [f"{places.count(place)} {place}" for place in ("cache", "mirror", "absent") if place in places]
        typer.echo(f"{name}: {', '.join(counts) or 'nothing to download'}")


@data.command()
def fetch(names: list[str]) -> None:
    """Download what is not here, of whole sets or of single files (grid-s1/bbaf4p.mpg), and print the paths."""
    for name in names:
        if "/" in name:
            typer.echo(sets.path(name))
            continue
        for file in tqdm(sets.manifest(name).files or sets.fetch(name), desc=name, disable=None):
            sets.path(f"{name}/{file}")


@data.command()
def mirror(dest: Path, names: Names = None) -> None:
    """Fill a mirror folder, from which a class works offline with THLIB_MIRROR=<dest>."""
    for name in tqdm(names or [n for n in sets.names() if sets.manifest(n).files], desc=str(dest), disable=None):
        sets.mirror(dest, [name])


@data.command()
def purge(what: str) -> None:
    """Delete "downloads", "tracks" (landmarks are biometric data), one data set, or "all" from the cache."""
    typer.echo(f"{sets.purge(what) / 1e6:.1f} MB deleted from {sets.cache()}")


@presenter.command("say")
def say_words(
    text: str,
    out: Made,
    emotion: Emotion = "neutral",
    intensity: Intensity = 1.0,
    identity: Identity = 0,
    size: Annotated[int, typer.Option(help="rows and columns of the video")] = 512,
    seed: int = 0,
) -> None:
    """A presenter says a text; its words, track and provenance lie beside the video, exact.

    thlib presenter say "Hello" --emotion happy --identity 7 --out hello.mp4"""
    _check_out(out, [])
    if not 64 <= size <= 2048:
        raise MediaError(f"{size} rows and columns were asked for: choose 64 to 2048")
    from thlib.presenter.speak import say

    done = say(text, emotion=emotion, intensity=intensity, identity=identity, seed=seed, size=(size, size))
    done.save(out)
    typer.echo(f"{out}: {done.clip.duration:.2f} s, {len(done.words)} words, {emotion}")


def _tool(name: str):
    """A module of the clone's tools/: notebooks and what runs them are not in a wheel."""
    if not (ROOT / "tools" / f"{name}.py").is_file():
        raise CourseError(f"{ROOT} has no tools and notebooks: clone the repository, and run make setup there")
    sys.path.insert(0, str(ROOT / "tools"))
    return importlib.import_module(name)


def _step(bar: tqdm, text: str) -> None:
    bar.update()
    bar.set_description_str(text)


def _check_out(out: Path, given: Sequence[Path], kinds: Sequence[str] = (".mp4",)) -> None:
    """Before hours of work: that `out` and what lies beside it can be written, and replace nothing that was given."""
    ours = [out, *map(out.with_suffix, BESIDE)] if out.suffix.lower() in kinds else []
    if not ours or {file.resolve() for file in ours} & {file.resolve() for file in given}:
        raise MediaError(f"the result cannot be written as {out}: name another file, ending in .mp4")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            folders = [str(file) for file in ours if file.is_dir()]
    except OSError as error:
        raise MediaError(f"{out.parent}/ takes no new file ({error.strerror}): name another folder") from error
    if folders:
        raise MediaError(f"{folders[0]} is a folder: name another file to write, ending in .mp4")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpeechError(f"{path} cannot be read as text ({type(error).__name__}): give a UTF-8 text file") from error


def _words(video: "thlib.clip.Video", transcript: Path) -> list["thlib.clip.Word"]:
    if transcript.suffix.lower() == ".align":
        return list(thlib.speech.read_align(transcript))
    if transcript.suffix.lower() == ".textgrid":
        return list(thlib.speech.read_textgrid(transcript)[0])
    if video.silent:
        raise MediaError(f"{video.path} has no sound: give a video with a sound track")
    return list(thlib.speech.align(video.audio, _text(transcript), rate=video.audio_rate))


if __name__ == "__main__":
    main()

"""Writes down which pictures, sounds, videos and data files a run opens: `tools/runner.py` puts this folder in front of
PYTHONPATH, so that Python imports it at its start, in the kernel as in every process that the kernel starts.

Python's own openings are heard by an audit hook, those of the native readers of media by wrapping them. THLIB_WITNESS:
the file to write to, a path a line. THLIB_WITNESSED: folders, separated as in PATH, of which every file counts. What is
newer than THLIB_SINCE (seconds) was made by the run itself, out of what stands in the list already.
"""

import importlib.util
import os
import sys

MEDIA = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
MEDIA += (".mp4", ".webm", ".mpg", ".mpeg", ".mov", ".avi", ".mkv", ".m4v", ".wav", ".flac", ".mp3", ".ogg", ".m4a")
NATIVE = {"av": ["open"], "cv2": ["imread", "VideoCapture"], "soundfile": ["SoundFile._open"]}  # take the file first
LOG, SINCE = os.environ.get("THLIB_WITNESS", ""), float(os.environ.get("THLIB_SINCE", "0"))
FOLDERS = tuple(os.path.realpath(f) + os.sep for f in os.environ.get("THLIB_WITNESSED", "").split(os.pathsep) if f)
_busy = False


def seen(file: object) -> None:
    """Write a file down, if it is one that counts."""
    global _busy
    if _busy or not isinstance(file, str | bytes | os.PathLike):
        return
    _busy = True
    try:
        path = os.path.realpath(os.fsdecode(file))
        media = path.lower().endswith(MEDIA) and os.stat(path).st_mtime < SINCE
        if (media or path.startswith(FOLDERS)) and os.path.isfile(path):
            with open(LOG, "a", encoding="utf-8") as stream:
                stream.write(f"{path}\n")
    except (OSError, ValueError):  # no such file
        pass
    finally:
        _busy = False


def heard(event: str, given: tuple) -> None:
    """The audit hook: what is opened to be read, and what other programs are given."""
    if event == "open":
        written = given[1][:1] in "wx" if isinstance(given[1], str) else given[2] & os.O_ACCMODE == os.O_WRONLY
        if not written:
            seen(given[0])
    elif event == "subprocess.Popen":
        for argument in given[1] if isinstance(given[1], list | tuple) else str(given[1]).split():
            seen(argument)


class Wrapper:
    """Wraps the native readers of a module as soon as that is imported."""

    def find_spec(self, name, path=None, target=None):
        """The spec of a module of NATIVE, whose loader wraps its readers."""
        if name not in NATIVE:
            return None
        readers = NATIVE.pop(name)
        if (spec := importlib.util.find_spec(name)) is None:
            return None
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), [wrap(module, reader) for reader in readers])
        return spec


def wrap(module: object, reader: str) -> None:
    """Let `reader` ("name" or "Class.method") of a module tell which file it is given."""
    *holder, name = reader.split(".")
    owner = getattr(module, holder[0]) if holder else module
    true = getattr(owner, name)

    def telling(*given, **options):
        for argument in (*given[:2], *options.values()):
            seen(argument)
        return true(*given, **options)

    setattr(owner, name, telling)


def next_one() -> None:
    """Run the sitecustomize that this one hides."""
    for folder in sys.path:
        file = os.path.join(folder, "sitecustomize.py")
        if os.path.isfile(file) and not os.path.samefile(file, __file__):
            spec = importlib.util.spec_from_file_location("hidden_sitecustomize", file)
            sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return


if LOG:
    sys.addaudithook(heard)
    sys.meta_path.insert(0, Wrapper())
next_one()

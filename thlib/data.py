"""Data sets by name: manifests, cache, mirrors, downloads that resume, and the consent that goes with every file.

A data set is one `data_manifests/<name>.yaml` (those in THLIB_MANIFESTS come first). A file is looked for in the cache
(THLIB_CACHE), in a mirror (THLIB_MIRROR: a folder `<data set>/<file>`, used in place, or a base URL), at the manifest's
URL, and has to match its SHA-256. Only `fetch`, `path` and `mirror` open connections; THLIB_OFFLINE=1 forbids them."""

import hashlib
import json
import os
import re
import shutil
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import numpy as np
import pooch
import requests
import yaml

from thlib.errors import DataError

# What a file's people agreed to. edit: "yes", "no", "unknown"; publish: "yes", "no" (README, report, picture).
Consent = namedtuple("Consent", "edit publish", defaults=("unknown", "no"))
# One file of a data set; what a manifest leaves out of licence, tier, consent is that of its set; the rest is "" or 0.
# Without `url` or `sha256` it is never downloaded, only taken from a mirror. bytes: size, 0 where unknown.
# tier: A open, B local use only, C non-commercial. split: "train" or "test". shows: what is to be seen or heard.
File = namedtuple("File", "licence tier consent url bytes sha256 split transcript shows", defaults=("", 0, *[""] * 4))
# A data set: its terms and its files by name, or, for one without files, its `size` and `how` to get it.
Manifest = namedtuple("Manifest", "name title homepage licence citation tier consent files size how", defaults=("", ""))
_READING = threading.Lock()  # numpy reads headers by ast, which Python 3.11 cannot do in two threads at once


def names() -> tuple[str, ...]:
    """The names of all data sets that have a manifest, sorted."""
    return tuple(sorted({file.stem for folder in _folders() for file in folder.glob("*.yaml")}))


def manifest(name: str) -> Manifest:
    """The manifest of a data set. DataError if there is none or it is refused."""
    if name not in names():
        raise DataError(f"no data set is called {name!r}: choose one of {', '.join(names())}")
    file = next(filter(Path.is_file, (folder / f"{name}.yaml" for folder in _folders())))
    return _parse(file, file.stat().st_mtime_ns)


def fetch(name: str, files: Iterable[str] | None = None) -> dict[str, Path]:
    """Local paths of a data set's files (all, or those named) by their names, downloaded where they are not at hand.
    The next call continues a download that was cut off. DataError says what is missing and how to get it."""
    known = manifest(name)
    if not known.files:
        raise DataError(f"{known.title} ({known.size}) is not downloaded by thlib: {known.how}, see {known.homepage}")
    return {file: _locate(known, file) for file in (known.files if files is None else files)}


def path(entry: str) -> Path:
    """The local path of one file, `path("grid-s1/bbaf4p.mpg")`; otherwise as `fetch`."""
    name, _, file = entry.partition("/")
    return fetch(name, [file])[file]


def status(name: str) -> dict[str, str]:
    """Where each file of a data set lies: "cache", "mirror" (a folder) or "absent"; opens no connection."""
    roots = [(place, root / name) for place, root in _roots().items() if isinstance(root, Path)]
    return {f: next((p for p, root in roots if (root / f).is_file()), "absent") for f in manifest(name).files}


def missing(*needs: str) -> list[str]:
    """Which of the data sets, or single files ("set/file"), are not wholly on this machine."""
    places = {need: (status(need.partition("/")[0]), need.partition("/")[2]) for need in needs}
    found = {n: [all_.get(file, "absent")] if file else all_.values() for n, (all_, file) in places.items()}
    return [need for need, where in found.items() if "absent" in where]


def mirror(dest: str | Path, sets: Iterable[str] | None = None) -> list[Path]:
    """Fill the mirror folder `dest` with data sets (default: all that have files); the paths of the copies."""
    copies = []
    for name in [name for name in names() if manifest(name).files] if sets is None else sets:
        for file, source in fetch(name).items():
            copies.append(_inside(Path(dest), f"{name}/{file}"))
            if not copies[-1].is_file() or not _matches(copies[-1], manifest(name).files[file]):
                with atomic(copies[-1]) as half:
                    shutil.copyfile(source, half)
    return copies


def purge(what: str) -> int:
    """Delete from the cache "downloads", "tracks" (landmarks: biometric data), one data set, or "all"; bytes freed."""
    folders = {name: f"thlib-downloads/{name}" for name in names()}
    folders |= {"downloads": "thlib-downloads", "tracks": "thlib-tracks", "all": "thlib-*"}
    if what not in folders:
        raise DataError(f"the cache holds nothing called {what!r}: purge downloads, tracks, all, or a data set by name")
    freed = 0
    for folder in cache().glob(folders[what]):
        freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
    return freed


def cache() -> Path:
    """The folder of downloads and cached tracks: THLIB_CACHE, or the platform's place for caches."""
    return Path(os.environ.get("THLIB_CACHE") or pooch.os_cache("thlib")).expanduser().absolute()


def cached(kind: str, key: object, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of `make()`, made once for each `key` (as JSON) and kept in the cache; kind: "tracks", "shares", …"""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache() / f"thlib-{kind}" / f"{digest}.npz"
    spoilt = suppress(OSError, EOFError, ValueError, zipfile.BadZipFile)  # or absent: made anew
    with spoilt, _READING, np.load(file, allow_pickle=False) as stored:
        return dict(stored)
    arrays = make()
    with atomic(file) as half, half.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return arrays


def consent(file: str | Path) -> Consent:
    """The consent for a file on disk, known by its hash wherever it lies, or for a "set/file" that is not on disk.
    A file that no manifest knows, such as the user's own, has Consent("unknown", "no")."""
    if Path(file).is_file():
        entries = (entry for name in names() for entry in manifest(name).files.values())
        return next((entry.consent for entry in entries if entry.sha256 == sha256(file)), Consent())
    name, _, entry = str(file).partition("/")
    listed = manifest(name).files if name in names() else {}
    return listed[entry].consent if entry in listed else Consent()


def shipped(name: str) -> dict:
    """What lies in the library itself: a table ("rigs.yaml") or a model's arrays ("head_model.npz")."""
    if name.endswith(".yaml"):
        return yaml.safe_load((Path(__file__).parent / "static" / name).read_text())
    with np.load(Path(__file__).parent / "weights" / name, allow_pickle=False) as file:
        return dict(file)


def sha256(file: str | Path) -> str:
    """SHA-256 of a file in hexadecimal, computed again only when its size or time of change differs."""
    stat = os.stat(file)
    return _sha256(str(file), stat.st_mtime_ns, stat.st_size)


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """Yield a `*.partial` beside `file` to write to; it takes the final name only if the block ends without error."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield half
        os.replace(half, file)
    finally:
        half.unlink(missing_ok=True)


@lru_cache(maxsize=8192)
def _sha256(file: str, _changed: int, _size: int) -> str:
    return pooch.file_hash(file)


def _folders() -> list[Path]:
    own = os.environ.get("THLIB_MANIFESTS")
    return [*([Path(own)] if own else []), Path(__file__).resolve().parents[1] / "data_manifests"]


@lru_cache(maxsize=256)
def _parse(file: Path, _changed: int) -> Manifest:
    where = str(file)
    try:
        # BaseLoader leaves every value a string: nothing is constructed, and `yes` stays "yes".
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        shared, files, base = {key: raw[key] for key in ("licence", "tier", "consent")}, {}, raw.pop("base", "")
        for name, entry in raw.get("files", {}).items():
            where = f"{file} (file {name!r})"
            _inside(Path(file.stem), name)
            url = urljoin(base, entry["url"]) if "url" in entry else ""
            if url and urlsplit(url).scheme not in ("https", "http", "file"):
                raise ValueError(f"the scheme of {url} is not https, http or file")
            if "sha256" in entry and not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
                raise ValueError(f"sha256 {entry['sha256']!r} is not 64 hexadecimal digits")
            known = {"url": url, "bytes": int(entry.get("bytes", 0)), "consent": _consent((shared | entry)["consent"])}
            files[name] = File(**shared | entry | known)
        return Manifest(name=file.stem, **raw | {"files": files, "consent": _consent(raw["consent"])})
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"manifest {where} is refused ({reason}): mend it, data_manifests has examples") from problem


def _consent(raw: dict) -> Consent:
    if raw["edit"] not in ("yes", "no", "unknown") or raw["publish"] not in ("yes", "no"):
        raise ValueError(f"consent {raw} is not edit: yes|no|unknown, publish: yes|no")
    return Consent(**raw)


def _inside(root: Path, name: str) -> Path:
    """`root / name`, refused if it leads out of `root` on any platform or by a link."""
    plain = name.isprintable() and not set(name) & set("\\:") and not set(name.split("/")) & {"", ".", ".."}
    if not plain or not (root / name).resolve().is_relative_to(root.resolve()):
        raise DataError(f"{name!r} leads out of the folder {root}: rename it, or remove the link that leads outside")
    return root / name


def _roots() -> dict[str, Path | str]:
    """Where files may lie already: the cache, and THLIB_MIRROR as a folder (Path) or a base URL (str)."""
    roots, value = {"cache": cache() / "thlib-downloads"}, os.environ.get("THLIB_MIRROR")
    if not value:
        return roots
    if value.startswith(("https://", "http://")):
        return roots | {"mirror": value.rstrip("/")}
    folder = Path(url2pathname(urlsplit(value).path) if value.startswith("file:") else value).expanduser()
    if not folder.is_dir():
        raise DataError(f"THLIB_MIRROR={value} is no folder and no https, http or file URL: correct it or unset it")
    return roots | {"mirror": folder}


def _matches(file: Path, entry: File) -> bool:
    return entry.bytes in (0, file.stat().st_size) and entry.sha256 in ("", sha256(file))


def _locate(known: Manifest, name: str) -> Path:
    place, urls = f"{known.name}/{name}", []
    if name not in known.files:
        raise DataError(f"there is no file {place}: data set {known.name} has {', '.join(list(known.files)[:9])} ...")
    for root in _roots().values():
        if isinstance(root, str):
            urls.append(f"{root}/{place}")
        elif (file := _inside(root, place)).is_file():
            if not _matches(file, known.files[name]):
                raise DataError(f"{file} has not the size or SHA-256 that its manifest states: delete or replace it")
            return file
    return _download(place, known.files[name], [*urls, known.files[name].url])


def _download(place: str, entry: File, urls: list[str]) -> Path:
    """The file from the first URL that answers. Wrong bytes are deleted and end the search."""
    target, tried = cache() / "thlib-downloads" / place, []
    what = f"{place} ({f'{entry.bytes / 1e6:.3g} MB, ' * bool(entry.bytes)}{entry.url or 'no address known'})"
    remedy = f"or fetch the file elsewhere, put it into a mirror folder as {place}, and set THLIB_MIRROR to that folder"
    forbidden = os.environ.get("THLIB_OFFLINE", "0") not in ("", "0")
    pooch.get_logger().setLevel("WARNING")
    for url in filter(None, urls if entry.sha256 else []):
        try:
            if forbidden and not url.startswith("file:"):
                raise OSError("THLIB_OFFLINE forbids connections")
            pooch.retrieve(url, entry.sha256, target.name, target.parent, downloader=partial(_resume, target))
            return target
        except OSError as problem:
            if target.is_file() and _matches(target, entry):  # another process was quicker; both wrote the same bytes
                return target
            tried.append(f"{urlsplit(url).netloc}: {problem if type(problem) is OSError else type(problem).__name__}")
        except ValueError as error:
            raise DataError(f"{url} serves other bytes than its manifest states: try again later, {remedy}") from error
    reason = "; ".join(tried) or "no address with a hash"
    raise DataError(f"{what} is not at hand and can't be downloaded ({reason}): connect and try again, {remedy}")


def _resume(target: Path, url: str, output: str, _pooch: object) -> None:
    """A downloader for pooch that goes on where `<target>.partial` ends, if the server can; else it starts again."""
    os.unlink(output)  # pooch's empty placeholder, which a kill would leave behind
    half = target.with_name(f"{target.name}.partial")
    if url.startswith("file:"):
        os.replace(shutil.copyfile(url2pathname(urlsplit(url).path), half), output)
        return
    half.touch()
    start = half.stat().st_size
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as answer, half.open("r+b") as stream:
        if answer.status_code != 416:  # 416: nothing is left to be sent
            answer.raise_for_status()
            stream.seek(start if answer.status_code == 206 else 0)
            for block in answer.iter_content(1 << 12):
                stream.write(block)
            stream.truncate()
    os.replace(half, output)

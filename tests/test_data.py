"""data.py: manifests, the order cache - mirror - URL, resumed downloads, refusals, consent."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from thlib import data
from thlib.errors import DataError

BODY = np.random.default_rng(0).bytes(300_000)
HEAD = (
    "{title: A set, homepage: 'https://x.org', licence: MIT, citation: none, tier: A, consent: {edit: yes, publish: no}"
)


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """An empty cache and an own folder of manifests; no mirror, no network settings."""
    for name in ("THLIB_MIRROR", "THLIB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("THLIB_MANIFESTS", str(tmp_path / "manifests"))
    (tmp_path / "manifests").mkdir()
    return tmp_path


def put_manifest(root: Path, files: dict, name: str = "set") -> None:
    (root / "manifests" / f"{name}.yaml").write_text(f"{HEAD}, files: {json.dumps(files)}}}")


def entry(body: bytes = BODY, **fields) -> dict:
    return {"url": "https://nowhere.invalid/f", "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} | fields


def put(path: Path, body: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


class Server(ThreadingHTTPServer):
    """Serves `body` at any path, cut off after `cut` bytes while `cuts` lasts; notes the Range of every request."""

    def __init__(self, body=BODY, *, ranges=True, cut=150_000, cuts=1, pause=0.0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.body, self.ranges, self.cut, self.cuts, self.pause, self.asked = body, ranges, cut, cuts, pause, []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0])
        server.asked.append(start)
        if "missing" in self.path:
            return self.send_error(404)
        if server.ranges and start >= len(server.body):
            return self.send_error(416)
        rest = server.body[start:] if server.ranges else server.body
        self.send_response(206 if server.ranges else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        server.cuts, whole = server.cuts - 1, server.cuts <= 0
        for at in range(0, len(rest) if whole else server.cut, 20_000):
            self.wfile.write(rest[at : min(at + 20_000, len(rest) if whole else server.cut)])
            time.sleep(server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start servers that stop with the test."""
    servers = []

    def start(*args, **options):
        servers.append(Server(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files_below(root: Path) -> set[str]:
    return {file.name for file in root.rglob("*") if file.is_file()}


# --- manifests ---------------------------------------------------------------------------------------------------


def test_every_manifest_that_ships_can_be_read(monkeypatch):
    monkeypatch.delenv("THLIB_MANIFESTS")
    assert {"grid-s1", "portraits", "hdtf", "wav2vec2-base-960h", "face-alignment"} <= set(data.names())
    for known in map(data.manifest, data.names()):
        assert known.title
        assert known.licence
        assert known.citation
        assert known.homepage.startswith("https://")
        assert known.tier in ("A", "B", "C")
        assert known.files or (known.how and known.size)
        assert all(file.url.startswith("https://") and file.sha256 for file in known.files.values())
        assert known.tier != "C" or known.consent.publish == "no"


def test_manifests_name_the_bytes_of_the_mirror(mirror, monkeypatch):
    monkeypatch.delenv("THLIB_MANIFESTS")
    index = {entry["path"]: entry for entry in json.loads((mirror / "index.json").read_text())}
    listed = {f"{name}/{file}": one for name in data.names() for file, one in data.manifest(name).files.items()}
    assert set(index) <= set(listed)
    for path, one in index.items():
        assert (listed[path].url, listed[path].bytes, listed[path].sha256) == (one["url"], one["bytes"], one["sha256"])
        assert listed[path].split == one.get("split", "")
        assert listed[path].transcript == one.get("transcript", "")
        assert listed[path].tier == one["tier"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"f": entry(url="ftp://x.org/f")}, "scheme"),
        ({"f": entry(url="f")}, "scheme"),
        ({"f": entry(sha256="abc")}, "64 hexadecimal"),
        ({"f": entry(consent={"edit": "maybe", "publish": "no"})}, "edit: yes|no|unknown"),
        ({"f": entry(colour="blue")}, "colour"),
        ({"f": entry(bytes="many")}, "many"),
        *[
            ({name: entry()}, "leads out")
            for name in ("../f", "/etc/f", "a/../../f", "C:/f", "C:f", "..\\f", "a//f", "")
        ],
    ],
)
def test_a_bad_manifest_is_refused_with_a_sentence(clean, files, reason):
    put_manifest(clean, files)
    with pytest.raises(DataError, match=re.escape(reason)) as caught:
        data.fetch("set")
    assert "\n" not in str(caught.value)
    assert not (clean / "cache").exists()


@pytest.mark.parametrize("text", ["[", "", "- a", "title: x", HEAD + ", files: 3}", HEAD + ", colour: blue}"])
def test_what_is_no_manifest_is_refused(clean, text):
    (clean / "manifests" / "set.yaml").write_text(text)
    with pytest.raises(DataError, match="refused"):
        data.manifest("set")


def test_unknown_names_are_answered_with_the_known(clean):
    put_manifest(clean, {"f": entry()})
    with pytest.raises(DataError, match="grid-s1"):
        data.manifest("../set")
    with pytest.raises(DataError, match="there is no file set/g: data set set has f"):
        data.path("set/g")
    with pytest.raises(DataError, match="not downloaded by thlib"):
        data.fetch("voxceleb")


# --- mirrors -----------------------------------------------------------------------------------------------------


def test_a_mirror_folder_is_used_in_place_and_hashed_once(clean, monkeypatch):
    put_manifest(clean, {"sub/f": entry()})
    there = put(clean / "mirror/set/sub/f")
    for value in (str(clean / "mirror"), (clean / "mirror").as_uri()):
        monkeypatch.setenv("THLIB_MIRROR", value)
        assert data.path("set/sub/f") == there
    assert not (clean / "cache").exists()
    before = data._sha256.cache_info().misses
    data.fetch("set")
    assert data._sha256.cache_info().misses == before
    assert data.status("set") == {"sub/f": "mirror"}
    put(there, BODY[:-1] + b"?")
    os.utime(there, (1, 1))
    with pytest.raises(DataError, match="SHA-256"):
        data.fetch("set")
    assert there.is_file()  # a mirror is never written to


def test_a_link_out_of_the_mirror_is_refused(clean, monkeypatch):
    put_manifest(clean, {"f": entry()})
    put(clean / "outside")
    (clean / "mirror/set").mkdir(parents=True)
    (clean / "mirror/set/f").symlink_to(clean / "outside")
    monkeypatch.setenv("THLIB_MIRROR", str(clean / "mirror"))
    with pytest.raises(DataError, match="leads out"):
        data.fetch("set")


@pytest.mark.parametrize("value", ["gopher://x.org/m", "ftp://x.org", "/no/such/folder"])
def test_what_is_no_mirror_is_refused(clean, monkeypatch, value):
    put_manifest(clean, {"f": entry()})
    monkeypatch.setenv("THLIB_MIRROR", value)
    with pytest.raises(DataError, match="THLIB_MIRROR"):
        data.fetch("set")


def test_filling_a_mirror_makes_a_class_work_offline(clean, monkeypatch):
    put_manifest(clean, {"f": entry(), "g": entry(b"other")})
    put(clean / "first/set/f")
    put(clean / "first/set/g", b"other")
    monkeypatch.setenv("THLIB_MIRROR", str(clean / "first"))
    copies = data.mirror(clean / "second", ["set"])
    assert [copy.read_bytes() for copy in copies] == [BODY, b"other"]
    put(copies[0], b"spoilt")
    data.mirror(clean / "second", ["set"])
    assert copies[0].read_bytes() == BODY
    monkeypatch.setenv("THLIB_MIRROR", str(clean / "second"))
    monkeypatch.setenv("THLIB_OFFLINE", "1")
    assert data.path("set/f") == copies[0]
    assert files_below(clean / "second") == {"f", "g"}


# --- downloads ---------------------------------------------------------------------------------------------------


def test_a_file_url_is_copied_into_the_cache_and_then_found_there(clean, monkeypatch):
    source = put(clean / "source")
    put_manifest(clean, {"f": entry(url=source.as_uri())})
    (clean / "empty").mkdir()
    monkeypatch.setenv("THLIB_MIRROR", str(clean / "empty"))  # a mirror that lacks the file
    assert data.path("set/f").read_bytes() == BODY
    source.unlink()
    assert data.path("set/f").is_relative_to(clean / "cache")
    assert data.status("set") == {"f": "cache"}


def test_a_cut_download_resumes_where_it_stopped(clean, monkeypatch, serve):
    server = serve()
    monkeypatch.setenv("THLIB_MIRROR", server.url + "/")
    put_manifest(clean, {"f": entry(url="http://127.0.0.1:9/f")})
    with pytest.raises(DataError, match="again"):
        data.fetch("set")
    assert files_below(clean / "cache") == {"f.partial"}
    have = (clean / "cache/thlib-downloads/set/f.partial").stat().st_size
    assert data.path("set/f").read_bytes() == BODY
    assert server.asked == [0, have]
    assert 0 <= server.cut - have < 4096
    assert files_below(clean / "cache") == {"f"}


def test_a_server_without_ranges_starts_again(clean, monkeypatch, serve):
    server = serve(ranges=False)
    monkeypatch.setenv("THLIB_MIRROR", server.url)
    put_manifest(clean, {"f": entry()})
    with pytest.raises(DataError, match=r"nowhere\.invalid"):
        data.fetch("set")
    assert data.path("set/f").read_bytes() == BODY
    assert files_below(clean / "cache") == {"f"}


def test_a_download_killed_before_its_last_step_is_finished(clean, monkeypatch, serve):
    server = serve(cuts=0)
    monkeypatch.setenv("THLIB_MIRROR", server.url)
    put_manifest(clean, {"f": entry()})
    put(clean / "cache/thlib-downloads/set/f.partial")
    assert data.path("set/f").read_bytes() == BODY
    assert server.asked == [len(BODY)]


def test_wrong_bytes_are_refused_and_deleted(clean, monkeypatch, serve):
    server = serve(b"<html>log in</html>", cuts=0)
    monkeypatch.setenv("THLIB_MIRROR", server.url)
    put_manifest(clean, {"f": entry()})
    for _ in range(2):
        with pytest.raises(DataError, match="serves other bytes than its manifest states"):
            data.fetch("set")
        assert files_below(clean / "cache") == set()
    assert server.asked == [0, 0]


def test_a_mirror_url_that_lacks_a_file_falls_to_the_manifest_url(clean, monkeypatch, serve):
    server = serve(cuts=0)
    monkeypatch.setenv("THLIB_MIRROR", server.url + "/missing")
    put_manifest(clean, {"f": entry(url=server.url + "/f")})
    assert data.path("set/f").read_bytes() == BODY
    assert server.asked == [0, 0]


def test_a_killed_download_leaves_no_half_file_and_resumes(clean, monkeypatch, serve):
    server = serve(cuts=0, pause=0.1)
    monkeypatch.setenv("THLIB_MIRROR", server.url)
    put_manifest(clean, {"f": entry()})
    child = subprocess.Popen([sys.executable, "-c", "from thlib import data; data.fetch('set')"])
    half = clean / "cache/thlib-downloads/set/f.partial"
    while not (half.is_file() and half.stat().st_size > 60_000):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not half.with_name("f").exists()
    have = half.stat().st_size
    assert data.path("set/f").read_bytes() == BODY
    assert server.asked == [0, have]


def test_two_downloads_of_one_file_at_once_both_succeed(clean, monkeypatch, serve):
    server = serve(cuts=0, pause=0.02)
    monkeypatch.setenv("THLIB_MIRROR", server.url)
    put_manifest(clean, {"f": entry()})
    with ThreadPoolExecutor() as pool:
        paths = [pool.submit(time.sleep(0.1 * i) or data.path, "set/f") for i in range(3)]
        assert [path.result().read_bytes() == BODY for path in paths] == [True] * 3
    assert files_below(clean / "cache") == {"f"}


def test_without_a_network_the_sentence_says_what_to_put_where(clean, monkeypatch):
    put_manifest(clean, {"f": entry(url="http://127.0.0.1:9/f")})
    with pytest.raises(DataError) as caught:
        data.fetch("set")
    for part in ("set/f", "0.3 MB", "http://127.0.0.1:9/f", "mirror", "THLIB_MIRROR"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    put_manifest(clean, {"f": {"bytes": 5}}, "byhand")
    with pytest.raises(DataError, match="no address with a hash"):
        data.fetch("byhand")
    monkeypatch.setenv("THLIB_MIRROR", str(put(clean / "m/byhand/f", b"12345").parents[1]))
    assert data.path("byhand/f").read_bytes() == b"12345"


def test_nothing_connects_unasked_and_offline_forbids(clean, monkeypatch):
    asked = []
    monkeypatch.setattr(data.requests, "get", lambda *args, **options: asked.append(args))
    put_manifest(clean, {"f": entry()})
    data.status("set")
    data.consent("set/f")
    monkeypatch.setenv("THLIB_OFFLINE", "1")
    with pytest.raises(DataError, match="THLIB_OFFLINE forbids"):
        data.fetch("set")
    assert asked == []


# --- the cache ---------------------------------------------------------------------------------------------------


def test_cached_arrays_are_made_once_and_again_when_spoilt(clean):
    made = []

    def make():
        made.append(1)
        return {"points": np.arange(6.0).reshape(2, 3)}

    for _ in range(2):
        assert np.array_equal(data.cached("tracks", ["abc", 1], make)["points"], np.arange(6.0).reshape(2, 3))
    data.cached("tracks", ["abc", 2], make)
    assert len(made) == 2
    for file in (clean / "cache/thlib-tracks").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    data.cached("tracks", ["abc", 1], make)
    assert len(made) == 3


def test_purge_deletes_what_it_names_and_only_that(clean):
    put_manifest(clean, {"f": entry(url=put(clean / "source").as_uri())})
    data.fetch("set")
    data.cached("tracks", 1, lambda: {"x": np.zeros(3)})
    other = put(clean / "cache/downloads/mine")
    assert data.purge("tracks") > 0
    assert data.status("set") == {"f": "cache"}
    assert data.purge("set") == len(BODY)
    assert data.purge("all") == 0
    assert files_below(clean / "cache") == {"mine"}
    assert other.read_bytes() == BODY
    with pytest.raises(DataError, match="nothing called"):
        data.purge("../..")


def test_atomic_leaves_nothing_of_a_failed_write(clean):
    put(clean / "f", b"old")
    with pytest.raises(TypeError), data.atomic(clean / "f") as half:
        half.write_bytes(b"new") + "not a number"
    assert (clean / "f").read_bytes() == b"old"
    assert files_below(clean) == {"f"}


# --- consent -----------------------------------------------------------------------------------------------------


def test_consent_follows_the_bytes_not_the_name(clean):
    put_manifest(clean, {"f": entry(consent={"edit": "no", "publish": "yes"}), "g": entry(b"other")})
    assert data.consent(put(clean / "renamed.mp4")) == data.Consent("no", "yes")
    assert data.consent(put(clean / "set/f", b"stranger")) == data.Consent("unknown", "no")
    assert data.consent("set/g") == data.Consent("yes", "no")
    assert data.consent("set/nothing") == data.consent("no-set/f") == data.Consent("unknown", "no")
    assert data.consent(clean / "renamed.mp4").publish == "yes"
    assert data.consent("set/g").publish == "no"


def test_consent_of_what_ships(monkeypatch):
    monkeypatch.delenv("THLIB_MANIFESTS")
    assert data.consent("grid-s1/bbaf2n.mpg") == data.consent("portraits/mona_lisa.jpg") == data.Consent("yes", "yes")
    assert data.consent("portraits/obama.jpg") == data.consent("portraits/astronaut.png") == data.Consent("no", "no")
    assert data.consent("talking-clips/may_512.mp4") == data.Consent("unknown", "no")
    assert data.consent("speech/jfk.flac").edit == "no"


def test_consent_of_real_footage_by_its_bytes(mirror, monkeypatch):
    monkeypatch.delenv("THLIB_MANIFESTS")
    assert data.consent(mirror / "portraits/pearl_earring.jpg").publish == "yes"
    assert data.consent(mirror / "talking-clips/lp_d0.mp4").publish == "no"

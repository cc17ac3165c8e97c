"""espeak-ng, a formant synthesiser, in a process of its own: `ask` is our side, `python -m thlib.espeak` the other.

espeak-ng is GPL-3 software. It is loaded (ctypes, from the wheel `espeakng-loader`) in the worker process alone:
requests and answers are JSON lines on a pipe, each answer followed by its 16-bit samples. API: its `speak_lib.h`.
"""

from __future__ import annotations

import _ctypes
import atexit
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from itertools import takewhile
from typing import Any, BinaryIO

import espeakng_loader
import numpy as np

from thlib.errors import SpeechError

_SYNCHRONOUS, _PHONEME_EVENTS, _IPA, _DONT_EXIT, _UTF8 = 2, 1, 2, 1 << 15, 1
_RATE, _PITCH = 1, 3  # parameters
_WORD, _PHONEME = 1, 7  # events


def ask(text: str, *, voice: str, speed: int, pitch: int) -> dict[str, Any]:
    """What espeak-ng makes of `text` (no control characters).

    Returns samples (int16 (S,)), rate (Hz) and events, a list of (word's position in `text` from 0 or None for a phone,
    phone in IPA, sample at which it starts). SpeechError if the voice is unknown or the worker fails twice.
    """
    answer = _worker(os.getpid()).ask({"text": text, "voice": voice, "speed": speed, "pitch": pitch})
    if "error" in answer:
        raise SpeechError(answer["error"])
    return answer


@cache
def _worker(_pid: int) -> _Worker:
    """This process's worker: a forked child gets one of its own."""
    return _Worker()


class _Worker:
    """The worker process: started at the first request, kept, started again if it died, ended with this process."""

    def __init__(self) -> None:
        self.lock, self.process = threading.Lock(), None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for _ in range(2):
                with suppress(OSError, ValueError):  # the worker died: once more with a new one
                    return self._exchange(request)
        said = request["text"][:60]
        raise SpeechError(f"espeak-ng died twice over {said!r}: try a shorter text, or reinstall espeakng-loader")

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.process is None:
            command = [sys.executable, "-m", "thlib.espeak"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            atexit.register(self._close)
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            samples = np.frombuffer(self.process.stdout.read(2 * answer["n"]), "<i2")
            if len(samples) < answer["n"]:
                raise ConnectionError("the answer ends early")
        except BaseException:  # an interrupt too leaves half an answer in the pipe
            self._close()
            raise
        return answer | {"samples": samples}

    def _close(self) -> None:
        atexit.unregister(self._close)
        process, self.process = self.process, None
        with suppress(OSError), process:  # closes its pipes and waits
            process.kill()


class _Event(ctypes.Structure):
    """`espeak_EVENT`; `name` is its union, of which phones use all 8 bytes."""

    _fields_ = [(name, ctypes.c_int) for name in ("type", "uid", "position", "length", "ms", "sample")]
    _fields_ += [("user", ctypes.c_void_p), ("name", ctypes.c_char * 8)]


class _Voice(ctypes.Structure):
    """`espeak_VOICE`, its first three fields; `languages` is a priority byte and a code."""

    _fields_ = [(name, ctypes.c_char_p) for name in ("name", "languages", "identifier")]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _speak(library: ctypes.CDLL, text: str, voice: str, speed: int, pitch: int) -> tuple[dict[str, Any], bytes]:
    pieces, heard = [], []

    def hear(samples: Any, n: int, events: Any) -> int:
        pieces.append(ctypes.string_at(samples, 2 * n) if n > 0 else b"")
        for event in takewhile(lambda event: event.type, events):
            if event.type == _WORD:
                heard.append((event.position - 1, "", event.sample))
            elif event.type == _PHONEME and not event.name.startswith(b"("):  # "(en)": a change of language
                heard.append((None, event.name.decode(errors="ignore"), event.sample))
        return 0

    data, options, callback = espeakng_loader.get_data_path(), _PHONEME_EVENTS | _IPA | _DONT_EXIT, _CALLBACK(hear)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), options)
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    known = (pointer[0] for pointer in takewhile(bool, library.espeak_ListVoices(None)))
    files = {v.languages[1:].decode(): v.identifier for v in known}
    language, plus, variant = voice.lower().partition("+")
    if library.espeak_SetVoiceByName(files.get(language, b"?") + (plus + variant).encode()):
        some = ", ".join(sorted(code for code in files if code.startswith("en")))
        return {"error": f"espeak-ng has no voice {voice!r}: choose a language code such as {some}"}, b""
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_RATE, speed, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    library.espeak_Synth(text.encode(), len(text.encode()) + 1, 0, 1, 0, _UTF8, None, None)
    return {"rate": rate, "events": heard}, b"".join(pieces)


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end; an interrupt is for the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in requests:
        # The library's flutter runs on from text to text: loaded anew (4 ms), it says the same text the same way.
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        answer, samples = _speak(library, **json.loads(line))
        library.espeak_Terminate()
        getattr(_ctypes, "dlclose" if os.name == "posix" else "FreeLibrary")(library._handle)
        answers.write(json.dumps(answer | {"n": len(samples) // 2}).encode() + b"\n" + samples)
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)

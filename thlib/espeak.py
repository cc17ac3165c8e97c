"""espeak-ng, a formant synthesiser, in a process of its own: `ask` is our side, `python -m thlib.espeak` the other.

espeak-ng is GPL-3 software. It is loaded (ctypes, from the wheel `espeakng-loader`) in the worker process alone:
requests and answers are JSON lines on a pipe, each answer followed by its 16-bit samples. API: its `speak_lib.h`.
"""

from __future__ import annotations

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


class _Synthesiser:
    """The library itself; lives in the worker process only."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data, options = espeakng_loader.get_data_path().encode(), _PHONEME_EVENTS | _IPA | _DONT_EXIT
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 0, data, options)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self.callback = kind(self._hear)
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        voices = (voice[0] for voice in takewhile(bool, self.library.espeak_ListVoices(None)))
        self.voices = {voice.languages[1:].decode(): voice.identifier for voice in voices}  # code: file

    def _hear(self, samples: Any, n: int, events: Any) -> int:
        if n > 0:
            self.pieces.append(ctypes.string_at(samples, 2 * n))
        for event in takewhile(lambda event: event.type, events):
            if event.type == _WORD:
                self.events.append((event.position - 1, "", event.sample))
            elif event.type == _PHONEME and not event.name.startswith(b"("):  # "(en)": a change of language
                self.events.append((None, event.name.decode(errors="ignore"), event.sample))
        return 0

    def __call__(self, text: str, voice: str, speed: int, pitch: int) -> tuple[dict[str, Any], bytes]:
        language, plus, variant = voice.lower().partition("+")
        identifier = self.voices.get(language, b"?") + (plus + variant).encode()
        if self.library.espeak_SetVoiceByName(identifier):
            some = ", ".join(sorted(code for code in self.voices if code.startswith("en")))
            return {"error": f"espeak-ng has no voice {voice!r}: choose a language code such as {some}"}, b""
        self.library.espeak_SetParameter(_RATE, speed, 0)
        self.library.espeak_SetParameter(_PITCH, pitch, 0)
        self.pieces, self.events = [], []
        raw = text.encode()
        self.library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _UTF8, None, None)
        return {"rate": self.rate, "events": self.events}, b"".join(self.pieces)


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end; an interrupt is for the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    synthesiser = _Synthesiser()
    for line in requests:
        answer, samples = synthesiser(**json.loads(line))
        answers.write(json.dumps(answer | {"n": len(samples) // 2}).encode() + b"\n" + samples)
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)

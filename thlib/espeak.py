"""espeak-ng, a formant synthesiser, in a process of its own: `ask` is our side, `python -m thlib.espeak` the other.

espeak-ng is GPL-3 software. It is loaded (ctypes, from the wheel `espeakng-loader`) in the worker process alone, a new
one for each text: its flutter runs on from text to text, but a new one says the same text the same way. The request is
JSON, the answer a line of JSON followed by 16-bit samples. API: its `speak_lib.h`."""

import ctypes
import json
import subprocess
import sys
from itertools import takewhile
from typing import Any

import espeakng_loader

from thlib.errors import SpeechError

_SYNCHRONOUS, _PHONEME_EVENTS, _IPA, _DONT_EXIT, _UTF8 = 2, 1, 2, 1 << 15, 1
_RATE, _PITCH = 1, 3  # parameters
_WORD, _PHONEME = 1, 7  # events


def ask(text: str, *, voice: str, speed: int, pitch: int) -> dict[str, Any]:
    """What espeak-ng makes of `text` (no control characters): samples (int16 (S,)), rate (Hz) and events (a word's
    place in `text` from 0, or None; phone in IPA; sample of its start). SpeechError: unknown voice, dead worker."""
    import numpy as np  # not above: the worker starts in a fifth of the time without it

    request = json.dumps({"text": text, "voice": voice, "speed": speed, "pitch": pitch}).encode()
    try:
        said = subprocess.run([sys.executable, "-m", "thlib.espeak"], input=request, capture_output=True, check=True)
        line, _, samples = said.stdout.partition(b"\n")
        answer = json.loads(line)
    except (OSError, ValueError, subprocess.CalledProcessError) as problem:
        raise SpeechError(f"espeak-ng died over {text[:60]!r}: shorten it, or reinstall espeakng-loader") from problem
    if "error" in answer:
        raise SpeechError(answer["error"])
    return answer | {"samples": np.frombuffer(samples, "<i2")}


class _Event(ctypes.Structure):
    """`espeak_EVENT`; `name` is its union, of which phones use all 8 bytes."""

    _fields_ = [(name, ctypes.c_int) for name in ("type", "uid", "position", "length", "ms", "sample")]
    _fields_ += [("user", ctypes.c_void_p), ("name", ctypes.c_char * 8)]


class _Voice(ctypes.Structure):
    """`espeak_VOICE`, its first three fields; `languages` is a priority byte and a code."""

    _fields_ = [(name, ctypes.c_char_p) for name in ("name", "languages", "identifier")]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _speak(text: str, voice: str, speed: int, pitch: int) -> tuple[dict[str, Any], bytes]:
    library, pieces, heard = ctypes.CDLL(espeakng_loader.get_library_path()), [], []

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


if __name__ == "__main__":
    told, sound = _speak(**json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + sound)

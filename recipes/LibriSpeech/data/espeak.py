"""Speaks sentences with espeak-ng: a job comes as JSON on stdin, audio goes to stdout.

Run as a process of its own for each voice: espeak-ng keeps state between calls (the phase of its oscillators and more),
so the same sentence sounds different the second time. A fresh process with a fixed seed always gives the same audio.

stdin: {"voice": "en-us+m1", "rate": 160, "pitch": 50, "volume": 70, "sentences": ["hello there", ...]}
stdout: a line of JSON, {"rate": 22050, "samples": [one count per sentence]}, then all samples as 16-bit integers.
"""

import ctypes
import json
import sys
from typing import Any

import espeakng_loader

# Names and values of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
RATE = 1
VOLUME = 2
PITCH = 3
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
    job = json.load(sys.stdin)
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, INITIALIZE_DONT_EXIT)
    if rate <= 0:
        sys.exit(f"espeak-ng cannot start from {data.decode()}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # it starts from the clock
    chunks = []

    @CALLBACK
    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    if library.espeak_SetVoiceByName(job["voice"].encode()):
        sys.exit(f"espeak-ng has no voice {job['voice']}")
    library.espeak_SetParameter(RATE, job["rate"], 0)
    library.espeak_SetParameter(VOLUME, job["volume"], 0)
    library.espeak_SetParameter(PITCH, job["pitch"], 0)
    spoken = []
    for sentence in job["sentences"]:
        chunks.clear()
        text = sentence.encode() + b"\0"
        if library.espeak_Synth(text, len(text), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None):
            sys.exit(f"espeak-ng cannot speak: {sentence}")
        spoken.append(b"".join(chunks))
    header = {"rate": rate, "samples": [len(audio) // 2 for audio in spoken]}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + b"".join(spoken))


if __name__ == "__main__":
    main()

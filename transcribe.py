"""Transcribe audio with a trained system, as it comes.

    python transcribe.py results/runs/llsa-mini-embedded-seed1 speech.flac
    python transcribe.py results/runs/llsa-mini-embedded-seed1 *.wav --json --batch 8
    python transcribe.py results/runs/llsa-mini-embedded-seed1 --microphone
    arecord -f S16_LE -r 16000 | python transcribe.py results/runs/llsa-mini-embedded-seed1 -

AUDIO is a file or a pipe, `-` standard input, with what libsndfile reads: any rate, any channels. WAV, FLAC, Ogg and --raw
are transcribed as they arrive; a pipe with another format, MP3 for instance, is copied to a temporary file first.

Text is final: it only grows. One input gives its text, then a newline. Of several, each gives a line, PATH, a tab and the
text, in the order given; with --batch N they go side by side, and their lines come in the order in which they end.

--engine onnx computes a step in a fraction of the time, with ONNX Runtime. --int8 as well takes less memory, and of a large model
less time, but letters may change. --engine compiled does without ONNX Runtime, but needs a C++ compiler. The first use of an
engine may take minutes: what it makes is kept for the next, in the run's folder or, if compiled, in torch's cache of the user.

With --json, one object for each word once it is whole, which the next space or word shows: `start` and `end` of the frames of
its letters, `emitted` and `closed`, how much had been heard when its last letter and when what follows came out; in seconds of
the input's own time. At the end of each input one more, with `real_time_factor`, the time to compute (all but reading and
waiting; of a batch, an equal share) for a second of audio, and `latency_ms`, as the model declares and measures it,
`total_ms` and `resampling_ms` with the resampling.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import recipes

if __name__ == "__main__":
    recipes.end_silently_at_ctrl_c()

import torch
from speech_attention.front_end import SAMPLE_RATE
from speech_attention.model import Latency
from speech_attention.recognizer import Output, Recognizer, Word

from recipes.command_line import MENDABLE, Parser, UserError, complain, exit_code, printable
from recipes.LibriSpeech.inference import engines, loading
from recipes.LibriSpeech.inference.audio import AudioFile
from recipes.LibriSpeech.inference.microphone import Microphone
from recipes.LibriSpeech.sound.reader import RATES, check_names
from recipes.LibriSpeech.sound.resampling import Resampler

LONGEST_HOP_MS = 10_000
TOLERATED = 0.1
"""Seconds that a piece may be late before the program says so."""
DIGITS = 7
"""Decimals of times in seconds, with which they are exact at 16 kHz."""


def main(arguments: Sequence[str]) -> int:
    """Transcribe; 0, or 2 after one line for each thing that the user can mend."""
    return exit_code(lambda words: run(parse(words)), arguments, interrupted="")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, checked."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", metavar="EXPERIMENT_FOLDER", help="as train.py leaves it")
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="files, pipes, - for standard input")
    parser.add_argument("--raw", type=int, metavar="RATE", help="AUDIO is PCM without a header: 16 bits, little-endian, mono")
    parser.add_argument("--microphone", nargs="?", const="", metavar="DEVICE", help="listen, until Ctrl-C")
    parser.add_argument("--hop_ms", type=float, help="audio is fed in pieces of this length; default: one frame")
    parser.add_argument("--realtime", action="store_true", help="feed files no faster than they would be spoken")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="files side by side, at most")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    engines.add_options(parser)
    options = parser.parse_intermixed_args(arguments)
    if bool(options.audio) == (options.microphone is not None):
        raise UserError("give audio files, or --microphone: one of them")
    if options.hop_ms is not None and not 1000 / SAMPLE_RATE <= options.hop_ms <= LONGEST_HOP_MS:
        raise UserError(f"--hop_ms {options.hop_ms:g} must be from {1000 / SAMPLE_RATE} (a sample) to {LONGEST_HOP_MS}")
    if options.batch < 1:
        raise UserError(f"--batch {options.batch} must be 1 or more")
    if options.raw is not None and options.microphone is not None:
        raise UserError("--raw says what files and pipes hold: leave it out with --microphone")
    if options.raw is not None and not RATES[0] <= options.raw <= RATES[1]:
        raise UserError(f"--raw {options.raw} must be a rate from {RATES[0]} to {RATES[1]} Hz")
    engines.check(options.engine, options.int8)
    check_names(options.audio)
    return options


def run(options: argparse.Namespace) -> int:
    """Transcribe all inputs, up to `batch` side by side; 2 if any of them was bad, otherwise 0."""
    system = loading.load(options.experiment)
    listens = options.microphone is not None
    if listens and not system.streams:
        raise UserError("the attention of this experiment has no streaming form: it cannot listen to a microphone")
    if options.engine != "torch" and not system.streams:
        raise UserError(f"the attention of this experiment has no streaming form: leave out --engine {options.engine}")
    hop_ms, latency = options.hop_ms or system.model.frame_ms, system.model.latency()
    recognizer: Recognizer | Offline = Offline(system)
    if system.streams:
        recognizer = engines.recognizer(system, options.engine, options.int8, int(hop_ms / system.model.frame_ms))
    if options.engine != "torch":
        system.model.to("meta")  # the engine has weights of its own
    announced: set[str] = set()
    bad: list[int] = []

    def inputs() -> Iterator[Input]:
        for path in options.audio or [None]:
            try:
                source = (
                    AudioFile(path, hop_ms, options.realtime, options.raw) if path else Microphone(options.microphone, hop_ms)
                )
            except UserError as error:
                bad.append(complain(error))
                continue
            each = Input(source, recognizer, latency, f"{printable(source.name)}\t" if len(options.audio) > 1 else "")
            if (line := each.announcement()) not in announced:
                announced.add(line)
                print(line, file=sys.stderr, flush=True)
            yield each

    waiting, running, late = inputs(), list[Input](), 0.0
    most = min(options.batch, max(1, len(options.audio)))
    while running := running + list(itertools.islice(waiting, most - len(running))):
        pieces = [each.listen() for each in running]
        began = time.perf_counter()
        for each, piece in zip(running, pieces):
            each.feed(piece)
        outputs = recognizer.run([each.stream for each in running])
        took = time.perf_counter() - began
        for each, output in zip(running, outputs):
            each.took += took / len(running)
            print(each.as_json(output) if options.json else each.as_text(output, live=most == 1), end="", flush=True)
            late = max(late, each.source.late)
            if each.error:
                bad.append(complain(each.error))
        running = [each for each in running if not each.stream.ended]
    if late > max(hop_ms / 1000, TOLERATED):
        print(f"could not keep up: {late:.2f} s late at the worst", file=sys.stderr)
    return MENDABLE if bad else 0


class Input:
    """One input on its way through the recognizer: from the pieces of its source to what is printed.

    Arguments
    ---------
    source : AudioFile or Microphone
    recognizer : Recognizer or Offline
    latency : dict
        Of the model, see `SpeechEncoder.latency`.
    title : str
        What is printed before its text.
    """

    def __init__(self, source: AudioFile | Microphone, recognizer: "Recognizer | Offline", latency: Latency, title: str):
        self.source, self.pieces, self.recognizer = source, iter(source), recognizer
        self.stream: Any = recognizer.open()
        self.resampler, self.unsaid, self.text = Resampler(source.rate), title, ""
        self.error: UserError | None = None
        self.heard, self.took = 0, 0.0  # samples of the source, seconds to compute
        total, resampling = latency["total_ms"], self.resampler.lookahead_ms
        total = None if total is None else total + resampling
        self.latency: dict[str, Any] = {**latency, "total_ms": total, "resampling_ms": resampling}

    def announcement(self) -> str:
        """One line about what to expect."""
        name = type(self.recognizer.model.encoder.blocks[0].attention).__name__
        if self.latency["total_ms"] is None:
            return f"{name} has no streaming form: a file is transcribed when it has ended"
        return (
            f"{name} at {self.source.rate} Hz: look-ahead of the attention {self.latency['attention_ms']:g} ms, in all "
            f"{self.latency['total_ms']:.4g} ms; state of a stream {self.recognizer.state_bytes} bytes"
        )

    def listen(self) -> torch.Tensor | None:
        """The next piece, or None at the end; waits where the source does."""
        try:
            return next(self.pieces, None)
        except UserError as error:
            self.error = error
            return None

    def feed(self, piece: torch.Tensor | None) -> None:
        """Give the recognizer what `listen` returned."""
        if piece is None:
            self.stream.feed(self.resampler.flush())
            self.stream.close()
        else:
            self.heard += len(piece)
            self.stream.feed(self.resampler.step(piece))

    def as_text(self, output: Output, live: bool) -> str:
        """What to print: the text as it comes, or all of it at the end."""
        self.unsaid += output.text + "\n" * self.stream.ended
        if not (live or self.stream.ended):
            return ""
        said, self.unsaid = self.unsaid, ""
        return said

    def as_json(self, output: Output) -> str:
        """What to print: a line for each word, and one at the end."""
        self.text += output.text
        lines = [self._word(word) for word in output.words] + [self._summary()] * self.stream.ended
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def _word(self, word: Word) -> dict:
        frame, delay, now = self.latency["frame_ms"] / 1000, self.resampler.lookahead_ms / 1000, self.heard / self.source.rate
        emitted, closed = (min(heard / SAMPLE_RATE + delay, now) for heard in (word.emitted, word.closed))
        times = {"start": word.first * frame, "end": min((word.last + 1) * frame, closed), "emitted": emitted, "closed": closed}
        times = {name: round(second, DIGITS) for name, second in times.items()}
        return {"file": self.source.name, "word": word.text, "frame": [word.first, word.last], **times}

    def _summary(self) -> dict:
        seconds = self.heard / self.source.rate
        return {
            "file": self.source.name, "text": self.text, "seconds": round(seconds, DIGITS),
            "real_time_factor": self.took / seconds if seconds else None, "state_bytes": self.recognizer.state_bytes,
            "latency_ms": self.latency, "rate": self.source.rate, "hop_ms": self.source.hop_ms,
        }  # fmt: skip


class Offline:
    """A `Recognizer` and its streams, for an attention without streaming form: the text comes when a stream has ended."""

    state_bytes = None

    def __init__(self, system: loading.Trained):
        self.system, self.model, self.ended = system, system.model, False
        self.samples: list[torch.Tensor] = []

    def open(self) -> "Offline":
        """A new stream."""
        return Offline(self.system)

    def feed(self, samples: torch.Tensor) -> None:
        """The next samples (n,) of this stream."""
        self.samples.append(samples)

    def close(self) -> None:
        """No more will come."""
        self.ended = True

    def run(self, streams: "Sequence[Offline]") -> list[Output]:
        """All of the text of each stream that has ended, nothing yet of the others."""
        return [self.system.offline(torch.cat(stream.samples)) if stream.ended else Output() for stream in streams]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

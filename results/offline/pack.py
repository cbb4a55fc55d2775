"""Packs what experiments of the comparison need on a machine without network, and puts their results back.

    python -m results.offline.pack --data_folder /path/to/LibriSpeech --output PACK --python 3.12
    python -m results.offline.pack --take_home HOME

PACK then has the committed code, the packages as wheels, the audio as Opus in parts that can travel one by one, the sums of
all, and run.py, which does the work there (packed_run.py). Encoded audio stays in PACK-opus<kbit/s> beside it: stopped, the
same command goes on, and what is there is not encoded again.
"""

import argparse
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import setuptools
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tqdm import tqdm

from recipes.command_line import Parser, UserError, exit_code
from recipes.files import folder_to_write, write_bytes, write_json
from recipes.LibriSpeech.data import prepare
from results import ROOT
from results.offline import packed_run

MIB = 2**20
GLIBC = 35  # wheels for Linux with glibc 2.35 or older


def needed(there, extras):
    """What the project needs and the other machine lacks: the packages installed here, with what they need themselves.

    Arguments
    ---------
    there : list of str
        Packages of the other machine, which has all that these need.
    extras : list of str
        Of setup.py.

    Returns
    -------
    dict
        Version by name.
    """

    def follow(lines, extras, found, without=()):
        for line in lines or ():
            requirement = Requirement(line)
            other, marker = canonicalize_name(requirement.name), requirement.marker
            wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if wanted and other not in found and other not in without:
                found[other] = metadata.version(other)
                follow(metadata.requires(other), requirement.extras, found, without)
        return found

    try:
        without = {canonicalize_name(name) for name in there}
        for name in list(without):
            follow(metadata.requires(name), (), found := {})
            without |= found.keys()
        setup = setuptools.distutils.core.run_setup(str(ROOT / "setup.py"), stop_after="init")  # what is installed may be older
        return follow(setup.install_requires + sum((setup.extras_require[name] for name in extras), []), (), {}, without)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"the package {error.name} is not installed here: pip install -e '.[figures,lm]'") from error


def download_command(packages, python, folder):
    """What pip is to do to have these packages as wheels for a Python, such as 3.12, on Linux."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, GLIBC + 1)]  # pip knows no "up to"
    platforms = [word for name in ("manylinux2014_x86_64", *platforms) for word in ("--platform", name)]
    wanted = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    exact = [f"{name}=={version}" for name, version in packages.items()]
    return [sys.executable, "-m", "pip", "download", "-q", *wanted, "-d", str(folder), *exact]


def encode(flac, opus, bitrate_kbit):
    """A FLAC file as Ogg/Opus, unless it is there; libsndfile maps its compression 0..1 to 256..6 kbit/s of a channel."""
    if not opus.exists():
        audio, rate = soundfile.read(flac, dtype="int16")
        level, content = (256 - bitrate_kbit) / 250, io.BytesIO()
        soundfile.write(content, audio, rate, format="OGG", subtype="OPUS", compression_level=level)
        opus.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(opus, content.getvalue())


def encode_splits(data_folder, encoded, splits, bitrate_kbit):
    """Encode what is not yet encoded.

    Returns
    -------
    chapters : dict
        By folder, relative to the tree: its files, audio encoded and transcripts as they are.
    samples : dict
        By utterance.
    """
    root = prepare.find_root(data_folder)
    manifests = prepare.prepare(data_folder, encoded / "manifests", splits or prepare.splits_in(root))
    samples, jobs, chapters = {}, [], {}
    for manifest in manifests.values():
        with open(manifest.path, newline="") as file:
            for row in csv.DictReader(file):
                path = Path(row["wav"].removeprefix("$data_root/"))
                samples[row["ID"]] = round(float(row["duration"]) * prepare.SAMPLE_RATE)
                jobs.append((root / path, (encoded / path).with_suffix(".opus"), bitrate_kbit))
                files = chapters.setdefault(path.parent, sorted((root / path.parent).glob("*.trans.txt")))
                files.append(jobs[-1][1])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(lambda job: encode(*job), jobs), total=len(jobs), desc="encoding", unit="file"):
            pass
    return chapters, samples


def write_parts(chapters, output, part_mib):
    """Write `data-00.tar`, ... of whole chapters, each part at most `part_mib` MiB: one alone is a LibriSpeech tree."""
    end = 2 * tarfile.RECORDSIZE  # zeros at the end of a tar file
    parts, room = [], 0
    for folder, files in chapters.items():
        size = sum(2 * tarfile.BLOCKSIZE + path.stat().st_size for path in files)  # a header, and filling up at the end
        if size + end > part_mib * MIB:
            raise UserError(f"--part_mib {part_mib} is too small: chapter {folder} has {size / MIB:.1f} MiB")
        if size > room:
            parts.append([])
            room = part_mib * MIB - end
        parts[-1] += [(path, folder / path.name) for path in files]
        room -= size
    for number, files in enumerate(parts):
        with tarfile.open(output / f"data-{number:02d}.tar", "w") as tar:
            for path, name in files:
                tar.add(path, name)


def pack(options):
    """Write the pack."""
    for name in ("data_folder", "output"):
        if getattr(options, name) is None:
            raise UserError(f"--{name} is missing (or --take_home)")
    if not 6 <= options.bitrate_kbit <= 256:
        raise UserError(f"--bitrate_kbit {options.bitrate_kbit} must be from 6 to 256")
    if not 0 < options.part_mib < float("inf"):
        raise UserError(f"--part_mib {options.part_mib} must be above 0, the MiB of a part")
    if not re.fullmatch(r"3\.\d+", options.python):
        raise UserError(f"--python {options.python} must be a version of Python such as 3.12")
    if options.lm and not options.lm.is_file():
        raise UserError(f"--lm {options.lm} is not there")
    output, kbit = options.output.absolute(), options.bitrate_kbit
    packages = needed(options.there, ["figures", *(["lm"] if options.lm else [])])
    chapters, samples = encode_splits(options.data_folder, Path(f"{output}-opus{kbit:g}"), options.splits, kbit)
    output.mkdir(parents=True, exist_ok=True)
    for old in [output / "manifest.json", output / "wheels", *output.glob("data-*.tar"), *output.glob("lm-*")]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    write_parts(chapters, output, options.part_mib)
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout:
        print("WARNING: there are changes that are not committed; the pack has the last commit", file=sys.stderr)
    subprocess.run([*git, "archive", "-o", str(output / "code.tar.gz"), "HEAD"], check=True, capture_output=True, text=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    if packages and subprocess.run(download_command(packages, options.python, output / "wheels")).returncode:
        raise UserError("pip has not found all wheels: see above; name what the other machine has in --there")
    if options.lm:
        shutil.copy(options.lm, output / f"lm-{options.lm.name}")
    shutil.copy(packed_run.__file__, output / "run.py")
    files = sorted(path for path in output.rglob("*") if path.is_file())
    with tarfile.open(output / "code.tar.gz") as code:
        measured = [Path(name).name for name in code.getnames() if name.startswith("results/measured/")]
    before = "" if options.codec == "FLAC" else f"{options.codec}, then "
    manifest = {
        "commit": commit,
        "codec": f"{before}Opus {kbit:g} kbit/s, unpacked to FLAC",
        "lm": options.lm and f"lm-{options.lm.name}",
        "measured": measured,
        "files": {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "samples": samples,
    }
    write_json(output / "manifest.json", manifest)
    size, hours = sum(path.stat().st_size for path in files) / MIB, sum(samples.values()) / prepare.SAMPLE_RATE / 3600
    print(f"{output}: {len(samples)} utterances, {hours:.1f} h, {len(packages)} wheels, {size:.1f} MiB in {len(files)} files")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_folder", metavar="FOLDER", help="a LibriSpeech tree")
    parser.add_argument("--output", type=folder_to_write, metavar="PACK", help="folder for the pack")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: all that are there")
    parser.add_argument("--lm", type=Path, metavar="FILE", help="a language model for a second WER")
    parser.add_argument("--part_mib", type=float, default=60, metavar="N", help="largest part of the data; default: %(default)s")
    parser.add_argument("--bitrate_kbit", type=float, default=24, metavar="N", help="of the audio; default: %(default)s")
    parser.add_argument("--codec", default="FLAC", help="what the audio went through before; default: %(default)s")
    there, version = ["torch", "torchaudio"], ".".join(map(str, sys.version_info[:2]))
    parser.add_argument("--there", nargs="*", default=there, metavar="PACKAGE", help="packages there; default: torch, torchaudio")
    parser.add_argument("--python", default=version, metavar="VERSION", help="of the machine, a Linux on x86-64; default: ours")
    parser.add_argument("--take_home", type=Path, metavar="HOME", help="put what run.py handed back into results/ here")
    return parser.parse_args(arguments)


def command(arguments: Sequence[str]) -> None:
    """Pack, or put back what was handed back."""
    options = parse(arguments)
    try:
        if options.take_home:
            written = packed_run.restore(options.take_home, ROOT)
            print(f"{len(written)} files written; for tables and figures: python -m results.pages")
        else:
            pack(options)
    except subprocess.CalledProcessError as error:
        raise UserError(f"{' '.join(map(str, error.cmd[:4]))} failed: {error.stderr or error}") from error
    except (packed_run.Refused, soundfile.SoundFileError) as error:
        raise UserError(error) from error


main = partial(exit_code, command, interrupted="stopped: the same command goes on with what is not yet encoded")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

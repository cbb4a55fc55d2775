"""Runs experiments of the comparison from a pack, on a machine that has torch and no network. The pack has it as run.py.

    python3 PACK/run.py --folder WORK --out HOME --budget_minutes 9 --scale small --only aa llsa-c3 --device cuda:0

WORK keeps code, packages, data and runs from one call to the next. The parts of the data may come in several calls; when all
are there, reproduce.py runs with the options that are not named below. HOME then has new results, logs, and the checkpoints of
runs in progress; `--home HOME` continues from them on a machine that has no WORK. Before its own imports it needs no package.
"""

import argparse
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOME = "home.tar.gz"
RATE, FRAME = 16000, 320  # samples a second; samples of a frame of Opus


class Refused(Exception):
    """What a user can mend, in one line."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refused(message)


def check(pack):
    """The manifest of a pack, whose files, as far as they are there, have their sums."""
    try:
        manifest = json.loads((pack / "manifest.json").read_text())
        _ = manifest["files"].items(), manifest["samples"].items(), list(manifest["measured"])
        _ = manifest["commit"], manifest["codec"], manifest["lm"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"{pack} is no whole pack, manifest.json is missing or damaged: copy it again") from error
    for name, sha256 in manifest["files"].items():
        if (pack / name).exists() and hashlib.sha256((pack / name).read_bytes()).hexdigest() != sha256:
            raise Refused(f"{pack / name} is damaged: copy it again")
    return manifest


def remembered(path):
    """What an earlier call noted in a file; None where it did not come to that."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def install(pack, work, manifest):
    """Unpack the code to WORK/code and the wheels to WORK/site, which goes before the packages of this Python."""
    code, site, done = work / "code", work / "site", work / "wheels.json"
    site.mkdir(parents=True, exist_ok=True)
    if (pack / "code.tar.gz").exists():
        with tarfile.open(pack / "code.tar.gz") as tar:
            tar.extractall(code, filter="data")
    elif not code.exists():
        raise Refused(f"{pack / 'code.tar.gz'} is missing: the first call needs it")
    if not (site / "speech_attention").is_symlink():
        (site / "speech_attention").symlink_to("../code/modules")
    wheels = {name: sha256 for name, sha256 in manifest["files"].items() if name.endswith(".whl")}
    if wheels and remembered(done) != wheels:
        if missing := [name for name in wheels if not (pack / name).exists()]:
            raise Refused(f"{pack / missing[0]} is missing: the first call needs all wheels")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade", "--target", site]
        if subprocess.run([*pip, *(pack / name for name in wheels)]).returncode:
            raise Refused("the wheels do not fit this Python: see above, and pack with --python and --there as they are here")
        done.write_text(json.dumps(wheels))


def unpack(part, root, samples):
    """A part of the data as a LibriSpeech tree below `root`: FLAC, 16 kHz, 16 bit, of `samples[utterance]` samples each.

    What a decoder adds or leaves out at the end, less than a frame of Opus, is cut off or filled with zeros.
    """
    import numpy as np  # from the wheels
    import soundfile
    from tqdm import tqdm

    def write(name, content):
        path = (root / name).with_suffix(".flac") if name.endswith(".opus") else root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        if path.suffix == ".flac":
            audio, rate = soundfile.read(io.BytesIO(content), dtype="int16")
            length = samples[path.stem]
            if rate != RATE or abs(len(audio) - length) >= FRAME:
                raise Refused(f"{name} in {part} has {len(audio)} samples at {rate} Hz for {length} at {RATE}: pack it again")
            audio, flac = np.pad(audio, (0, max(0, length - len(audio))))[:length], io.BytesIO()
            soundfile.write(flac, audio, RATE, format="FLAC", subtype="PCM_16")
            content = flac.getvalue()
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        os.replace(partial, path)

    with tarfile.open(part) as tar, ThreadPoolExecutor(os.cpu_count()) as pool:
        done = [pool.submit(write, member.name, tar.extractfile(member).read()) for member in tar]
        for one in tqdm(done, desc=f"unpacking {part.name}", unit="file"):
            one.result()


def hand_back(code, out, manifest, weights, part_mib):
    """Write results, logs and checkpoints as `home.tar.gz.00`, ... of at most `part_mib` MiB; see `restore`.

    Arguments
    ---------
    code : Path
        The checkout with results/measured and results/runs.
    out : Path
        Folder for the files; what it has from an earlier call is replaced.
    manifest : dict
        Of the pack: its `measured` are not new; its `commit` is noted in the results, which have no git to ask here.
    weights : bool
        Of finished runs too. Without them these have no summary.json either, so that nobody takes them for complete.
    part_mib : float
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(code.glob("results/measured/*.json")):
            result = json.loads(path.read_text())
            if path.name not in manifest["measured"]:
                if "environment" in result and result["environment"]["git"] is None:
                    result["environment"]["git"] = {"commit": manifest["commit"], "dirty": False}
                    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
                tar.add(path, path.relative_to(code))
        for path in sorted(path for path in code.glob("results/runs/*/**/*") if path.is_file()):
            run = code / "results" / "runs" / path.relative_to(code).parts[2]
            finished = (code / "results" / "measured" / f"{run.name}.json").exists()
            of_weights = path.suffix == ".ckpt" or "checkpoints" in path.parts or path == run / "summary.json"
            pretrained = (run / "pretrain" / "checkpoints") in path.parents and (run / "pretrain" / "encoder.ckpt").exists()
            here_only = (run / "manifests") in path.parents or path.suffix == ".lock"
            if not (here_only or pretrained or (finished and of_weights and not weights)):
                tar.add(path, path.relative_to(code))
    content, size = gzip.compress(content.getvalue(), 5), int(part_mib * 2**20)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{HOME}.*"):
        old.unlink()
    for number, start in enumerate(range(0, len(content), size)):
        (out / f"{HOME}.{number:02d}").write_bytes(content[start : start + size])
    print(f"to take home: {len(content) / 2**20:.1f} MiB in {out}", flush=True)


def restore(home, root, replace=True):
    """Put what `hand_back` wrote into the results of the checkout `root`. What is finished or busy there stays as it is.

    Arguments
    ---------
    home : Path
        The folder with `home.tar.gz.00`, ...
    root : Path
    replace : bool
        Whether a run in progress is overwritten, or stays too.

    Returns
    -------
    list of str
        The files that are written.
    """
    try:
        content = gzip.decompress(b"".join(path.read_bytes() for path in sorted(home.glob(f"{HOME}.[0-9]*"))))
        tar = tarfile.open(fileobj=io.BytesIO(content))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise Refused(f"{home} does not hold all of {HOME}.00, ... undamaged: copy them again") from error
    files = [member for member in tar if member.name.startswith(("results/measured/", "results/runs/"))]
    runs = {Path(*Path(member.name).parts[:3]) for member in files if member.name.startswith("results/runs/")}
    stay = {run for run in runs if (root / run / "summary.json").exists() or busy(root / run)}
    stay |= set() if replace else {run for run in runs if (root / run).exists()}
    stay |= {Path(member.name) for member in files if "measured" in member.name and (root / member.name).exists()}
    written = [member for member in files if Path(*Path(member.name).parts[:3]) not in stay]
    tar.extractall(root, written, filter="data")
    return [member.name for member in written]


def busy(run):
    """Whether a trainer holds the folder of a run."""
    if not (run / "reproduce.lock").exists():
        return False
    with open(run / "reproduce.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def go(options, others):
    """All steps. Returns the exit code of reproduce.py, or 0 where parts of the data are still to come."""
    begin, pack, work = time.monotonic(), Path(__file__).resolve().parent, options.folder.absolute()
    manifest = check(pack)
    install(pack, work, manifest)
    sys.path.insert(0, str(work / "site"))
    code, data, done = work / "code", work / "LibriSpeech", work / "parts.json"
    unpacked = remembered(done) or []
    parts = [(name, sha256) for name, sha256 in manifest["files"].items() if name.startswith("data-")]
    for name, sha256 in parts:
        if sha256 not in unpacked and (pack / name).exists():
            unpack(pack / name, data, manifest["samples"])
            unpacked.append(sha256)
            done.write_text(json.dumps(unpacked))
    if missing := [name for name, sha256 in parts if sha256 not in unpacked]:
        print(f"unpacked; still to come: {', '.join(missing)}")
        return 0
    if options.home:
        restore(options.home, code, replace=False)
    if manifest["lm"] and (pack / manifest["lm"]).exists():
        shutil.copy(pack / manifest["lm"], work)
    lm = ["--lm", str(work / manifest["lm"])] if manifest["lm"] else []
    minutes = 0.9 * options.budget_minutes - (time.monotonic() - begin) / 60
    command = [sys.executable, "-m", "results.reproduce", "--data_folder", str(data), "--codec", manifest["codec"], *lm, *others]
    paths = os.pathsep.join(filter(None, [str(work / "site"), os.environ.get("PYTHONPATH")]))
    command += ["--budget_minutes", str(max(minutes, 0.001))]
    try:
        return subprocess.run(command, cwd=code, env={**os.environ, "PYTHONPATH": paths}).returncode
    finally:
        hand_back(code, options.out, manifest, options.weights, options.part_mib)


def main(arguments):
    """The exit code of reproduce.py; 2 after one line about what the user can mend, 130 if stopped."""
    parser = Parser(prog="run.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--folder", type=Path, required=True, help="for code, packages, data and runs: keep it")
    parser.add_argument("--out", type=Path, required=True, help="for what is to be taken home")
    parser.add_argument("--home", type=Path, help="what was taken home from an earlier call, to continue from")
    parser.add_argument("--budget_minutes", type=float, default=9, help="of the call; a tenth is kept for its end; default: 9")
    parser.add_argument("--weights", action="store_true", help="take home the weights of finished runs too")
    parser.add_argument("--part_mib", type=float, default=15, help="largest file to be taken home; default: 15")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options, others = parser.parse_known_args(arguments)
        for name in ("budget_minutes", "part_mib"):
            if not 0 < getattr(options, name) < float("inf"):
                raise Refused(f"--{name} {getattr(options, name)} must be above 0")
        return go(options, others)
    except ImportError as error:
        line = f"{error}: pack it with the packages that this machine lacks, see --there of the packing"
    except (Refused, OSError) as error:
        line = str(error)
    except (tarfile.TarError, EOFError, zlib.error, MemoryError) as error:
        line = f"a file of the pack is damaged, or memory is short ({type(error).__name__}: {error}): copy the pack again"
    except KeyboardInterrupt:
        print("stopped: the same command goes on", file=sys.stderr)
        return 130
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

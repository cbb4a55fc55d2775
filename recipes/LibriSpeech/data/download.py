"""Fetches LibriSpeech's official archives, checks them and unpacks them."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from recipes.command_line import UserError
from recipes.LibriSpeech.data.prepare import splits_in

CHECKSUMS = {
    "https://www.openslr.org/resources/12": {  # LibriSpeech
        "train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        "train-clean-360": "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        "train-other-500": "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
        "dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        "dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        "test-clean": "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        "test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    },
    "https://www.openslr.org/resources/31": {  # Mini LibriSpeech
        "train-clean-5": "md5:5df7d4e78065366204ca6845bb08f490",
        "dev-clean-2": "md5:6d7ab67ac6a1d2c993d050e16d61080d",
    },
}
"""Algorithm:digest of the archive of each split, as its publisher has it, by the address of the publisher."""
ARCHIVES = {split: (f"{url}/{split}.tar.gz", digest) for url, digests in CHECKSUMS.items() for split, digest in digests.items()}
CHUNK = 1 << 16
TIMEOUT = (10, 60)  # seconds to connect, and without a byte


def download(splits: Iterable[str], data_folder: str | Path, archives: Mapping[str, tuple[str, str]] = ARCHIVES) -> Path:
    """Fetches the splits that are not there yet. Interrupted, the same call goes on where it stopped.

    Arguments
    ---------
    splits : list
        Names of the splits, such as `dev-clean`.
    data_folder : str or Path
        Where they go, as `data_folder/LibriSpeech/<split>`; a `data_folder` that holds splits itself, or is named
        LibriSpeech, takes them directly.
    archives : dict
        From split to its archive's address and checksum ("sha256:..." or "md5:..."); the official ones unless told.

    Returns
    -------
    Path
        The folder that holds the splits.
    """
    unknown = [split for split in splits if split not in archives]
    if unknown:
        raise UserError(f"Cannot download split {unknown[0]}: known are {', '.join(archives)}.")
    data_folder = Path(data_folder)
    direct = data_folder.name == "LibriSpeech" or (data_folder.is_dir() and splits_in(data_folder))
    root = data_folder if direct else data_folder / "LibriSpeech"
    for split in splits:
        if (root / split).is_dir():  # it got this name only when it was complete
            continue
        root.mkdir(parents=True, exist_ok=True)
        url, checksum = archives[split]
        part = root / f"{split}.tar.gz.part"
        _fetch(url, part)
        _verify(part, checksum)
        _extract(part, root, split)
        part.unlink()
    return root


def _fetch(url: str, part: Path) -> None:
    """Completes the file `part` from `url`, from the byte where it stops."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            if start and reply.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is left to send; the checksum judges what is there
            reply.raise_for_status()
            if reply.status_code != requests.codes.partial_content:
                start = 0  # the server sends the whole file
            total = start + int(reply.headers["Content-Length"]) if "Content-Length" in reply.headers else None
            progress: dict[str, Any] = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
            with open(part, "ab" if start else "wb") as file, tqdm(desc=f"Fetching {part.stem}", **progress) as bar:
                for chunk in reply.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        raise UserError(f"Cannot fetch {url} ({_reason(error)}): the same command resumes it.") from error
    if total is not None and part.stat().st_size < total:
        raise UserError(f"Cannot fetch {url} (connection lost): the same command resumes it.")


def _reason(error: requests.RequestException) -> str:
    """What went wrong, in a few words."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    return "no answer" if isinstance(error, requests.Timeout) else "no connection, or lost it"


def _verify(part: Path, checksum: str) -> None:
    """Refuses, and deletes, an archive that is not the official one."""
    algorithm, expected = checksum.split(":")
    digest = hashlib.new(algorithm)
    size = part.stat().st_size
    with open(part, "rb") as file, tqdm.wrapattr(file, "read", size, desc=f"Verifying {part.stem}") as watched:
        while chunk := watched.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        part.unlink()
        raise UserError(
            f"Archive {part.stem} has the wrong {algorithm} checksum and is deleted: the same command fetches it again."
        )


def _extract(part: Path, root: Path, split: str) -> None:
    """Unpacks LibriSpeech/<split> of an archive to `root`/<split>, whole or not at all, with the corpus' notes."""
    size = part.stat().st_size
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{split}-") as partial:
        with open(part, "rb") as file, tqdm.wrapattr(file, "read", size, desc=f"Unpacking {part.stem}") as watched:
            try:
                with tarfile.open(fileobj=watched, mode="r|gz") as archive:
                    archive.extractall(partial, filter="data")
            except (tarfile.TarError, EOFError, zlib.error) as error:  # members with `..` among them
                raise UserError(f"Archive {part} cannot be unpacked ({error}): delete it, or check its address.") from error
        unpacked = Path(partial) / "LibriSpeech"
        if not (unpacked / split).is_dir():
            raise UserError(f"Archive {part.stem} has no folder LibriSpeech/{split}: check its address.")
        for notes in unpacked.glob("*.TXT"):
            shutil.move(notes, root / notes.name)
        os.replace(unpacked / split, root / split)

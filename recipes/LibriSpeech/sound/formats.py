"""What a file is by its first bytes, and what to do with one that libsndfile does not read."""

import shlex
from pathlib import PurePath

CONVERTED = (
    (4, b"ftyp", "MPEG-4 audio or video (m4a, mp4, mov, 3gp)"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"#!AMR", "AMR"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (wma, wmv)"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"FLV", "Flash video"),
    (0, b".RMF", "RealMedia"),
    (8, b"AVI ", "AVI video"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"MPCK", "Musepack"),
    (0, b"TTA1", "True Audio"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b"\x0bw", "AC-3"),
    (0, b"G", "an MPEG transport stream"),  # and again every 188 bytes, see below
    (28, b"Speex", "Speex in Ogg"),
    (28, b"\x80theora", "Theora video in Ogg"),
)
"""Where a signature stands, the signature, and the name of the format: ffmpeg reads all of these."""
PACKED = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "git lfs pull fetches it"),
    (0, b"\x1f\x8b", "compressed by gzip", "unpack it first: gunzip"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first: unzip"),
    (0, b"\xfd7zXZ", "compressed by xz", "unpack it first: unxz"),
    (0, b"BZh", "compressed by bzip2", "unpack it first: bunzip2"),
    (0, b"(\xb5/\xfd", "compressed by zstd", "unpack it first: unzstd"),
    (0, b"7z\xbc\xaf", "a 7-zip archive", "unpack it first: 7z x"),
    (257, b"ustar", "a tar archive", "unpack it first: tar -xf"),
)
"""What holds a file of any kind: where its signature stands, the signature, its name, and what to do about it."""
SILENT = (
    (0, b"%PDF", "a PDF", "give the sound itself"),
    (0, b"\x89PNG", "a picture", "give the sound itself"),
    (0, b"\xff\xd8\xff", "a picture", "give the sound itself"),
    (0, b"MThd", "MIDI, notes without sound", "give the sound itself"),
)
READ = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"ID3", b"riff", b"NIST", b"Crea")
"""Signatures of the usual formats that libsndfile reads."""
ENOUGH = 512
"""First bytes of a file that tell."""


def is_mp3(head: bytes) -> bool:
    """Whether a file that begins like this may be an MP3: a frame of it, or a tag."""
    return head[:3] == b"ID3" or head[:1] == b"\xff" and head[1:2] >= b"\xe0"


def may_be_read(head: bytes) -> bool:
    """Whether a file that begins like this is worth copying for libsndfile: its format is usual."""
    return head.startswith(READ) or is_mp3(head)


def what_to_do(name: str, head: bytes) -> str:
    """One line about a file that libsndfile does not read: what it is, and how to go on.

    Arguments
    ---------
    name : str
        Path of the file, or `-` for standard input.
    head : bytes
        Its first `ENOUGH` bytes.

    Example
    -------
    >>> what_to_do("a b.m4a", b"....ftypM4A ....")
    "it is MPEG-4 audio or video (m4a, mp4, mov, 3gp): convert it: ffmpeg -i 'a b.m4a' -ac 1 -ar 16000 'a b.wav'"
    """
    for place, mark, kind in CONVERTED:
        if head[place:].startswith(mark) and (mark != b"G" or head[188:189] == b"G"):
            return f"it is {kind}: convert it: {ffmpeg(name)}"
    for place, mark, kind, advice in PACKED + SILENT:
        if head[place:].startswith(mark):
            return f"it is {kind}: {advice}"
    if not head:
        return "it is empty: it has no samples"
    if head.startswith(READ):
        return f"it begins like audio, but is damaged: get it again, or see what is left: {ffmpeg(name)}"
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text[:14].lower().startswith(("<!doctype html", "<html", "<head", "<?xml", "<!--")):
        return "it is a web page, of a failed download perhaps: download the sound again"
    if text.startswith(("{", "[")) and text.isprintable() | ("\n" in text):
        return "it is JSON: give the sound itself"
    if sum(not (letter.isprintable() or letter.isspace()) or letter == "\ufffd" for letter in text) <= len(text) // 100:
        return "it is text: give the sound itself"
    return (
        f"it is no format that libsndfile knows: convert it ({ffmpeg(name)}), or, if it is PCM without a header, give --raw RATE"
    )


def ffmpeg(name: str) -> str:
    """The command that converts a file."""
    if name == "-" or name.startswith(("/dev/", "/proc/")):
        return "ffmpeg -i - -ac 1 -ar 16000 -f wav - in the pipe before this command"
    path = PurePath(name)
    target = path.with_name(f"{path.stem}-converted.wav" if path.suffix == ".wav" else f"{path.stem}.wav")
    words = [f"./{each}" if str(each).startswith("-") else str(each) for each in (path, target)]
    return f"ffmpeg -i {shlex.quote(words[0])} -ac 1 -ar 16000 {shlex.quote(words[1])}"

"""run.py of a pack, on a machine that has only torch: what is wrong with the pack or the command is one line."""

import json
import shutil

import pytest

from results.offline import packed_run
from tests.faults.case import Case, check

MANIFEST = {"commit": "abc", "codec": "Opus", "lm": None, "measured": [], "files": {}, "samples": {}}
RUN = "run --folder work --out home"


def pack(manifest, **files):
    """Makes a pack with run.py, this manifest, and files with these contents."""

    def make(place):
        shutil.copy(packed_run.__file__, place.here / "run.py")
        content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        (place.here / "manifest.json").write_bytes(content)
        for name, content in files.items():
            (place.here / name.replace("_", ".")).write_bytes(content)

    return make


WHOLE = pack(MANIFEST)
WORK = ("work", "work/*")
CASES = (
    *(
        Case(RUN, ("is no whole pack", "copy it again"), before=pack(content))
        for content in (b"", b"null", b"3", b"[]", b"{}", b"{", b"\xff", b"[" * 100_000, b'{"files": {}}')
    ),
    *(Case(f"{RUN} --budget_minutes {n}", ("--budget_minutes", "above 0"), before=WHOLE) for n in ("0", "-1", "nan", "inf")),
    *(Case(f"{RUN} --part_mib {n}", ("--part_mib", "above 0"), before=WHOLE) for n in ("0", "-1", "nan")),
    Case(f"{RUN} --part_mib x", ("--part_mib", "invalid"), before=WHOLE),
    Case("run --folder work", ("required: --out",), before=WHOLE),
    Case(RUN, ("code.tar.gz is missing",), before=WHOLE, leaves=WORK),
    Case(RUN, ("damaged", "copy the pack again"), before=pack(MANIFEST, code_tar_gz=b"no archive"), leaves=WORK),
    Case(
        RUN,
        ("data-00.tar is damaged",),
        before=lambda place: (
            pack({**MANIFEST, "files": {"data-00.tar": "0" * 64}})(place),
            (place.here / "data-00.tar").touch(),
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_packed_run(case, place):
    check(case, place)

"""Downloads from a local server: whole, interrupted and resumed, broken, forged."""

import gzip
import hashlib
import io
import re
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recipes.command_line import UserError
from recipes.LibriSpeech.data.download import ARCHIVES, download
from recipes.LibriSpeech.data.prepare import find_root, prepare


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; sends `server.cut` bytes at most; knows byte ranges unless `server.ranges` is False."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.cut, server.ranges = {}, [], None, True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def archives(make_tree, tmp_path, server):
    """An archive of each of two splits on the server; the table that `download` needs to get them."""
    root = make_tree({"dev-b": 20, "test-b": 2}, root=tmp_path / "origin" / "LibriSpeech")
    (root / "LICENSE.TXT").write_text("CC BY 4.0")
    table = {}
    for split in ("dev-b", "test-b"):
        packed = tmp_path / f"{split}.tar.gz"
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(root / split, f"LibriSpeech/{split}")
            archive.add(root / "LICENSE.TXT", "LibriSpeech/LICENSE.TXT")
        data = packed.read_bytes()
        server.files[f"/{split}.tar.gz"] = data
        url = f"http://127.0.0.1:{server.server_port}/{split}.tar.gz"
        table[split] = (url, f"sha256:{hashlib.sha256(data).hexdigest()}")
    return table


def refused(*args):
    with pytest.raises(UserError) as error:
        download(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_splits_are_fetched_once(archives, server, tmp_path, capsys):
    root = download(["dev-b", "test-b"], tmp_path / "data", archives)
    assert root == tmp_path / "data" / "LibriSpeech" == find_root(tmp_path / "data")
    assert names(root) == ["LICENSE.TXT", "dev-b", "test-b"]  # no archive and no temporary folder is left
    assert "100%" in capsys.readouterr().err
    assert prepare(root, tmp_path / "save", ["dev-b"])["dev-b"].utterances == 20
    assert download(["dev-b", "test-b"], tmp_path / "data", archives) == root
    assert download(["dev-b"], root, archives) == root  # the folder with the splits may be given too
    assert len(server.asked) == 2


def test_missing_splits_join_those_that_are_there(archives, server, make_tree, tmp_path):
    root = make_tree({"mine": 2}, root=tmp_path / "flat")
    assert download(["test-b"], root, archives) == root
    assert names(root) == ["LICENSE.TXT", "mine", "test-b"]


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_is_resumed(archives, server, tmp_path, capsys, ranges):
    data = server.files["/dev-b.tar.gz"]
    assert len(data) > 250_000
    server.cut, server.ranges = 150_000, ranges
    message = refused(["dev-b"], tmp_path / "data", archives)
    assert "the same command resumes" in message
    root = tmp_path / "data" / "LibriSpeech"
    assert names(root) == ["dev-b.tar.gz.part"]
    kept = (root / "dev-b.tar.gz.part").stat().st_size
    assert 80_000 < kept <= 150_000

    capsys.readouterr()
    server.cut = None
    download(["dev-b"], tmp_path / "data", archives)
    assert server.asked == [None, f"bytes={kept}-"]
    assert prepare(root, tmp_path / "save", ["dev-b"])["dev-b"].utterances == 20
    assert names(root) == ["LICENSE.TXT", "dev-b"]
    first_bar = re.search(r"Fetching dev-b.tar.gz: +(\d+)%", capsys.readouterr().err)
    assert int(first_bar[1]) == (round(100 * kept / len(data)) if ranges else 0)


def test_complete_part_is_unpacked(archives, server, tmp_path):
    """Such as one whose unpacking was interrupted."""
    root = tmp_path / "data" / "LibriSpeech"
    root.mkdir(parents=True)
    (root / "test-b.tar.gz.part").write_bytes(server.files["/test-b.tar.gz"])
    download(["test-b"], tmp_path / "data", archives)
    assert names(root) == ["LICENSE.TXT", "test-b"]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_forged_archive_is_refused_and_deleted(archives, server, tmp_path, algorithm):
    url, data = archives["dev-b"][0], server.files["/dev-b.tar.gz"]
    archives["dev-b"] = (url, f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    server.files["/dev-b.tar.gz"] = data[:-1] + bytes([data[-1] ^ 1])
    assert "checksum" in refused(["dev-b"], tmp_path / "data", archives)
    assert names(tmp_path / "data" / "LibriSpeech") == []
    server.files["/dev-b.tar.gz"] = data
    assert names(download(["dev-b"], tmp_path / "data", archives)) == ["LICENSE.TXT", "dev-b"]


def test_no_server_and_no_such_file(archives, server, tmp_path):
    del server.files["/dev-b.tar.gz"]
    message = refused(["dev-b"], tmp_path / "data", archives)
    assert "HTTP 404" in message and archives["dev-b"][0] in message
    with socket.socket() as silent:  # a port that nobody listens on
        silent.bind(("127.0.0.1", 0))
        nobody = {"dev-b": (f"http://127.0.0.1:{silent.getsockname()[1]}/dev-b.tar.gz", "md5:0")}
        assert "the same command resumes" in refused(["dev-b"], tmp_path / "data", nobody)


def test_unknown_split(tmp_path):
    message = refused(["dev-dirty"], tmp_path / "data")
    assert "dev-dirty" in message and "dev-clean" in message


def test_archive_of_another_split(archives, tmp_path):
    archives["dev-b"] = archives["test-b"]
    assert "LibriSpeech/dev-b" in refused(["dev-b"], tmp_path / "data", archives)
    assert not (tmp_path / "data" / "LibriSpeech" / "dev-b").exists()


@pytest.mark.parametrize("name", ["../evil", "LibriSpeech/dev-b/../../../evil"])
def test_archive_that_reaches_out_of_its_folder(archives, server, tmp_path, name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    before = names(tmp_path)
    assert "cannot be unpacked" in refused(["dev-b"], tmp_path / "data", served(archives, server, packed.getvalue()))
    assert names(tmp_path) == sorted([*before, "data"]) and names(tmp_path / "data" / "LibriSpeech") == ["dev-b.tar.gz.part"]


def served(archives, server, data):
    """The table with other data for one split, whose checksum is right."""
    server.files["/dev-b.tar.gz"] = data
    return {"dev-b": (archives["dev-b"][0], f"sha256:{hashlib.sha256(data).hexdigest()}")}


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>", b"", gzip.compress(b"text"), gzip.compress(bytes(2000))[:-9]])
def test_what_is_no_archive(archives, server, tmp_path, data):
    message = refused(["dev-b"], tmp_path / "data", served(archives, server, data))
    assert "cannot be unpacked" in message or "has no folder LibriSpeech/dev-b" in message
    assert "checksum" in refused(["dev-b"], tmp_path / "data", archives | {"dev-b": (archives["dev-b"][0], "sha256:0")})


def test_official_table_has_a_full_checksum_for_each_archive():
    for split, (url, checksum) in ARCHIVES.items():
        assert url.startswith("https://www.openslr.org/resources/") and url.endswith(f"/{split}.tar.gz")
        algorithm, digest = checksum.split(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size

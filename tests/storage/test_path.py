"""A place behaves the same on a disk and on an object store, and nothing half-written is ever seen in it."""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from support.object_store import NO_SERVER, Store, s3_server
from support.stages import ROOT

from pipeline.core.files import atomic, write_bytes
from pipeline.storage.object_stores import explained
from pipeline.storage.path import StorageError, StoragePath

LARGE = b"0123456789" * 1_200_000
"""More than one piece of an S3 upload."""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> StoragePath:
    return StoragePath.of(tmp_path / "out") if request.param == "local" else StoragePath.of(store.uri(tmp_path.name))


@pytest.mark.parametrize("data", [b"", b"few", LARGE], ids=["empty", "small", "large"])
def test_what_is_written_is_read_again(data: bytes, folder: StoragePath) -> None:
    place = folder / "a/b c/ä %20 ?.png"
    assert not place.exists()
    place.write_bytes(data)
    assert place.read_bytes() == data
    assert (place.exists(), place.is_file(), place.is_dir(), place.size()) == (True, True, False, len(data))
    assert (place.parent.exists(), place.parent.is_file(), place.parent.is_dir()) == (True, False, True)
    with place.open() as handle:
        handle.seek(-min(len(data), 4), os.SEEK_END)
        assert handle.read() == data[-4:]
    assert place.read_at(1, 2) == data[1:3]


def test_parts_of_an_address(folder: StoragePath) -> None:
    place = folder / "a/b.tar.gz"
    assert (place.name, place.suffix, place.parent) == ("b.tar.gz", ".gz", folder / "a")
    assert place.with_name("c.png") == folder / "a/c.png" == folder / "a" / "c.png"
    assert StoragePath.of(place.uri) == StoragePath.of(place) == pickle.loads(pickle.dumps(place)) == place
    assert (place.local is None) == (folder.local is None)


@pytest.mark.parametrize("relative", ["../x.png", "a/../../x.png", "/etc/passwd"])
def test_a_name_that_leads_out_of_a_folder_is_refused(relative: str, folder: StoragePath) -> None:
    with pytest.raises(StorageError, match="points out of"):
        folder / relative


def test_files_are_listed_with_their_sizes_in_the_order_of_a_tree_hidden_ones_too(folder: StoragePath) -> None:
    names = [".hidden", "a/1.png", "a/b/.x.tmp", "a.png", "b.png"]
    for index, name in enumerate(reversed(names)):
        (folder / name).write_bytes(b"x" * index)
    assert [(name, size) for name, size, _ in folder.files()] == list(zip(names, (4, 3, 2, 1, 0), strict=True))
    assert [name for name, _, _ in folder.files(recursive=False)] == [".hidden", "a.png", "b.png"]
    assert list((folder / "no such").files()) == []


def test_the_stamp_of_a_file_changes_when_the_file_does(folder: StoragePath) -> None:
    (folder / "a.png").write_bytes(b"old")
    (folder / "b.png").write_bytes(b"other")
    before = {name: stamp for name, _, stamp in folder.files()}
    (folder / "a.png").write_bytes(b"newer")
    after = {name: stamp for name, _, stamp in folder.files()}
    assert before["a.png"] != after["a.png"] == (folder / "a.png").stamp()
    assert before["b.png"] == after["b.png"] == (folder / "b.png").stamp()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_nothing_and_keeps_what_was_there(
    error: type[BaseException], folder: StoragePath
) -> None:
    (folder / "old.tar").write_bytes(b"as it was")

    def write(place: StoragePath) -> None:
        with place.writing() as handle:
            handle.write(LARGE)
            raise error

    for name in ("old.tar", "new.tar"):
        with pytest.raises(error):
            write(folder / name)
    assert [name for name, _, _ in folder.files()] == ["old.tar"]
    assert (folder / "old.tar").read_bytes() == b"as it was"


def test_a_process_that_dies_while_writing_leaves_nothing_under_the_name(folder: StoragePath, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pipeline.storage.path import StoragePath\n"
        "with StoragePath.of(sys.argv[1]).writing() as handle:\n"
        "    handle.write(bytes(12 << 20)); handle.flush(); os._exit(7)\n"
    )
    place = folder / "x.tar"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script, place.uri], cwd=ROOT, env=environment, timeout=120)
    assert run.returncode == 7
    assert not place.exists()


def test_what_is_written_can_be_sought_in_and_is_not_compressed_by_its_name(folder: StoragePath) -> None:
    with (folder / "x.tar.gz").writing() as handle:
        handle.write(b"....tail")
        handle.seek(0)
        handle.write(b"head")
    assert (folder / "x.tar.gz").read_bytes() == b"headtail"


def test_files_and_folders_are_removed_and_removing_what_is_not_there_is_fine(folder: StoragePath) -> None:
    for name in ("keep.png", "a.png", "tree/b.png", "tree/c/d.png"):
        (folder / name).write_bytes(b"x")
    for _ in range(2):
        (folder / "a.png").remove()
        (folder / "tree").remove_tree()
    assert [name for name, _, _ in folder.files()] == ["keep.png"]
    assert not (folder / "tree").exists()


def test_a_missing_file_is_an_error_that_names_it(folder: StoragePath) -> None:
    place = folder / "none.png"
    for action in (place.read_bytes, place.size, place.open):
        with pytest.raises(FileNotFoundError, match=r"none\.png"):
            action()


def test_free_space_is_that_of_the_disk_also_before_the_folder_is_made(tmp_path: Path, store: Store) -> None:
    free = StoragePath.of(tmp_path / "not/made/yet").free()
    assert free is not None
    assert free > 0
    assert StoragePath.of(store.uri("x")).free() is None


def test_a_file_uri_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"x")
    assert StoragePath.of(f"file://{tmp_path}/a%20b.png") == StoragePath.of(tmp_path / "a b.png")


def test_a_store_that_cannot_be_reached_is_said_in_one_line_without_credentials(store: Store) -> None:
    place = StoragePath.of(f"s3://KEY:SECRET@bucket/x?endpoint_override={NO_SERVER}&scheme=http&region=us-east-1")
    for action in (place.exists, place.read_bytes, lambda: list(place.files()), lambda: place.write_bytes(b"x")):
        with pytest.raises(StorageError, match="cannot be reached; check the network and the endpoint") as raised:
            action()
        assert "s3://bucket/x" in str(raised.value)
        assert "SECRET" not in str(raised.value) + repr(place) + str(place)
        assert "\n" not in str(raised.value)


def test_refused_credentials_are_said_so(store: Store) -> None:
    place = StoragePath.of(store.uri("denied.png"))
    with store.locked():
        for action in (place.exists, place.read_bytes, lambda: place.write_bytes(b"x")):
            with pytest.raises(StorageError, match=r"denied\.png.*: access denied; check the credentials"):
                action()


def test_a_failed_upload_is_an_error(store: Store) -> None:
    place = StoragePath.of(store.uri("x").replace("//bucket/", "//no-such-bucket/"))
    for data in (b"small", LARGE):
        with pytest.raises(StorageError, match=r"no-such-bucket.*: no such bucket"):
            place.write_bytes(data)


class LosesPieces(BaseHTTPRequestHandler):
    """An S3 server that begins uploads and refuses their second piece."""

    protocol_version = "HTTP/1.1"
    seen: list[str] = []

    def answer(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
        lost = "partNumber=2" in self.path
        if lost:
            body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(403 if lost else 200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_large_upload_that_loses_a_piece_is_an_error_and_never_completed(store: Store) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), LosesPieces) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"127.0.0.1:{server.server_port}"
        place = StoragePath.of(f"s3://bucket/x?endpoint_override={endpoint}&scheme=http&region=us-east-1")
        with pytest.raises(StorageError, match="access denied"):
            place.write_bytes(LARGE)
        server.shutdown()
    assert [line for line in LosesPieces.seen if "partNumber=2" in line]
    assert not [line for line in LosesPieces.seen if line.startswith("POST") and "uploadId=" in line]
    assert "PUT /bucket/x" not in LosesPieces.seen


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_may_come_from_the_environment(
    variable: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://{store.endpoint}")
    StoragePath.of(f"s3://bucket/{variable}").write_bytes(b"x")
    assert StoragePath.of(store.uri(variable)).read_bytes() == b"x"


@pytest.mark.parametrize("uri", ["nonsense://host/x.zip", "s3://", "s3:///key", "s3://KEY:SEC/RET@bucket/x"])
def test_an_address_that_is_none_is_refused_without_showing_what_may_be_secret(uri: str) -> None:
    with pytest.raises(StorageError, match="://…: ") as raised:
        StoragePath.of(uri)
    assert "SEC" not in str(raised.value)


def test_a_file_whose_name_is_as_long_as_a_disk_allows_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".png", "ü" * 125 + ".png"):
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 2


def test_two_who_write_the_same_file_at_once_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    with atomic(tmp_path / "x") as first, atomic(tmp_path / "x") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
        assert first.name.startswith(".")
        assert first.name.endswith(".tmp")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


SECRET = "wJalrXUtnFEMI"
SECRETS = [
    f"s3://KEYID:{SECRET}@bucket/x.zip",
    f"S3://KEYID:{SECRET}@bucket/x.zip",
    f"s3://bucket/x.zip?access_key=KEYID&secret_key={SECRET}",
    f"s3://bucket/x.zip?X-Amz-Signature={SECRET}",
    f"s3://bucket/x.zip?scheme={SECRET}",
    f"s3://bucket/x.zip?endpoint_override=user:{SECRET}@127.0.0.1:1",
    f"https://user:{SECRET}@127.0.0.1:1/x.zip",
    f"https://127.0.0.1:1/x.zip?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
    f"https://127.0.0.1:1/x.zip?sig;a={SECRET}",
    f"https://127.0.0.1:1/x.zip?{SECRET}",
    f"https://127.0.0.1:1/x.zip#token={SECRET}",
    f"abfs://container@account/x.zip?account_key={SECRET}",
]


@pytest.mark.parametrize("uri", SECRETS)
def test_a_credential_in_an_address_is_never_shown(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    path = StoragePath.of(uri)
    beside = [path.name, path.suffix, path.path, path.parent, path.with_name("y.zip")]
    assert SECRET not in repr([path, str(path), f"{path}", *map(str, beside)])
    assert str(path).endswith(("x.zip", "account/x.zip"))
    with pytest.raises(StorageError) as raised:
        path / "../y"
    assert SECRET not in str(raised.value)
    if uri.startswith("http"):
        with pytest.raises(StorageError) as raised:
            path.exists()
        assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_store_that_repeats_a_credential_in_its_error_is_not_repeated() -> None:
    with pytest.raises(StorageError) as raised, explained(f"s3://KEYID:{SECRET}%2F1@bucket/x.zip?session_token=abcdef"):
        raise OSError(f"odd: KEYID with {SECRET}/1, {SECRET}%2F1 and abcdef")
    assert str(raised.value) == "s3://bucket/x.zip: odd: … with …, … and …"


def test_what_is_no_credential_is_shown() -> None:
    uri = "s3://bucket/x.zip?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1&anonymous=true"
    assert str(StoragePath.of(uri)) == uri

"""TFRecord, HDF5 and CelebAMask-HQ as they are passed around, columns of Parquet, places that fsspec reaches."""

import gc
import json
import pickle
import struct
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import ARCHIVES, RASTERS, as_celebamask, as_hdf5, as_tfrecords, tf_example, tf_record
from support.object_store import Store, s3_server
from support.pictures import face

from pipeline.core.images import decode, encode_png, pixel_hash
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive
from pipeline.sources.tfrecords import celebahq_order, masked_crc
from pipeline.storage.object_stores import shown
from pipeline.storage.path import StorageError, StoragePath

FACES = {f"{index}.png": encode_png(face(index, 32)) for index in range(5)}
HASHES = [pixel_hash(decode(data)) for data in FACES.values()]


def contents(path: str, scratch: Path) -> dict[str, bytes | str]:
    """What a source gives: name -> bytes, or the reason why there are none."""
    source = open_archive(path, scratch)
    found: dict[str, bytes | str] = {}
    for entry in source.entries():
        try:
            found[entry.name] = entry.problem or source.read(entry.key)
        except SourceError as error:
            found[entry.name] = str(error)
    return found


def hashes(path: str, scratch: Path) -> list[str]:
    return [pixel_hash(decode(data)) for data in contents(path, scratch).values() if isinstance(data, bytes)]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


# raw pixels


@pytest.mark.parametrize("kind", [*ARCHIVES, *RASTERS])
def test_the_pixels_are_the_same_from_any_container(kind: str, tmp_path: Path) -> None:
    assert hashes((ARCHIVES | RASTERS)[kind](tmp_path, FACES), tmp_path / "scratch") == HASHES


@pytest.mark.parametrize("kind", RASTERS)
def test_raw_pixels_are_read_from_an_object_store(kind: str, store: Store, tmp_path: Path) -> None:
    assert hashes(store.put(RASTERS[kind](tmp_path, FACES), tmp_path.name), tmp_path / "scratch") == HASHES


@pytest.mark.parametrize("kind", RASTERS)
def test_raw_pixels_are_read_in_any_order_by_threads_and_in_another_process(kind: str, tmp_path: Path) -> None:
    source = open_archive(RASTERS[kind](tmp_path, FACES), tmp_path)
    keys = json.loads(json.dumps([entry.key for entry in source.entries()])) * 4
    source.read(keys[0])
    elsewhere = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda key: pixel_hash(decode(elsewhere.read(key))), reversed(keys)))
    assert found == [*reversed(HASHES)] * 4


@pytest.mark.parametrize("kind", RASTERS)
def test_grey_pixels_stay_grey(kind: str, tmp_path: Path) -> None:
    grey = face(1, 16)[..., :1]
    if kind == "hdf5":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["data16x16"] = grey.transpose(2, 0, 1)[None]
    else:
        (tmp_path / "x.tfrecords").write_bytes(tf_record(tf_example(grey)))
    path = next(str(path) for path in tmp_path.iterdir())
    [data] = contents(path, tmp_path).values()
    assert isinstance(data, bytes)
    assert data[25] == 0  # PNG's colour type: grey
    assert (decode(data) == grey.repeat(3, axis=2)).all()


# TFRecord


def test_of_a_folder_of_tfrecords_the_largest_pictures_are_taken(tmp_path: Path) -> None:
    as_tfrecords(tmp_path / "set" / "faces-r10.tfrecords", FACES)
    (tmp_path / "set" / "faces-rxx.labels").write_bytes(b"labels")
    assert sorted(path.name for path in (tmp_path / "set").iterdir())[0] == "faces-r02.tfrecords"
    assert hashes(str(tmp_path / "set"), tmp_path) == HASHES


def test_the_checksum_is_the_one_that_the_format_states() -> None:
    # RFC 3720, B.4: CRC-32C of 32 bytes of zeros is 8A9136AA; masked by the rule of the format
    assert masked_crc(bytes(32)) == (((0x8A9136AA >> 15) | (0x8A9136AA << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = Path(as_tfrecords(tmp_path / "faces-r10.tfrecords", FACES))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = contents(str(path), tmp_path)
    assert found.pop("record-000002.png") == "damaged in the file (its checksum is wrong)"
    assert [pixel_hash(decode(data)) for data in found.values() if isinstance(data, bytes)] == HASHES[:2] + HASHES[3:]


@pytest.mark.parametrize("harm", ["cut in a record", "cut in a length", "length damaged"])
def test_what_came_before_the_break_of_a_tfrecord_file_is_kept_and_the_break_is_named(
    harm: str, tmp_path: Path
) -> None:
    path = Path(as_tfrecords(tmp_path / "faces-r10.tfrecords", FACES))
    data = bytearray(path.read_bytes())
    third = len(data) * 2 // 5
    if harm == "length damaged":
        data[third] ^= 1
    path.write_bytes(data if harm == "length damaged" else data[: third + (200 if "record" in harm else 5)])
    found = contents(str(path), tmp_path)
    assert f"at byte {third}); what came before it was read" in str(found.pop(path.name))
    assert [pixel_hash(decode(data)) for data in found.values() if isinstance(data, bytes)] == HASHES[:2]


def test_a_record_that_is_no_picture_is_named(tmp_path: Path) -> None:
    wrong = tf_example(face(0, 16)).replace(b"shape", b"shope")
    short = tf_example(face(0, 16)).replace(struct.pack("<3B", 3, 16, 16), struct.pack("<3B", 3, 16, 17))
    records = [b"no message", b"", wrong, short, tf_example(face(3, 16))]
    (tmp_path / "x.tfrecords").write_bytes(b"".join(map(tf_record, records)))
    found = list(contents(str(tmp_path / "x.tfrecords"), tmp_path).values())
    assert found[:2] == ["not a tf.train.Example"] * 2
    assert found[2] == "no picture in it: its features are data, shope"
    assert found[3] == "damaged (shape (3, 16, 17) does not fit its 768 bytes of pixels)"
    assert isinstance(found[4], bytes)


def test_celebahq_records_are_named_by_their_number_in_celebahq(tmp_path: Path) -> None:
    record = tf_record(tf_example(face(0, 4)))
    for name, count in (("celebahq-r02", 30_000), ("other-r02", 30_000), ("celebahq-r03", 29_999)):
        (tmp_path / f"{name}.tfrecords").write_bytes(record * count)
    names = [entry.name for entry in open_archive(str(tmp_path / "celebahq-r02.tfrecords"), tmp_path).entries()]
    order = np.arange(30_000)
    np.random.RandomState(123).shuffle(order)
    assert names == [f"{number:05d}.png" for number in order]
    assert sorted(celebahq_order()) == list(range(30_000))
    for name in ("other-r02", "celebahq-r03"):
        first = next(iter(open_archive(str(tmp_path / f"{name}.tfrecords"), tmp_path).entries()))
        assert first.name == "record-000000.png"


# HDF5


def test_of_an_hdf5_file_the_largest_level_is_taken_in_its_order(tmp_path: Path) -> None:
    found = contents(as_hdf5(tmp_path / "x.h5", FACES), tmp_path)
    assert list(found) == [f"{index:05d}.png" for index in range(5)]
    assert hashes(str(tmp_path / "x.h5"), tmp_path) == HASHES


def test_a_truncated_hdf5_file_and_one_without_pictures_are_errors_that_name_them(tmp_path: Path) -> None:
    path = Path(as_hdf5(tmp_path / "x.h5", FACES))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SourceError, match=r"x\.h5: not a readable HDF5 file .*truncated.*a download that broke off"):
        contents(str(path), tmp_path)
    with h5py.File(tmp_path / "y.hdf5", "w") as file:
        file["labels"] = np.zeros((5, 2), np.uint8)
    with pytest.raises(SourceError, match=r"y\.hdf5: no pictures in it"):
        contents(str(tmp_path / "y.hdf5"), tmp_path)


def test_a_damaged_chunk_of_an_hdf5_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = Path(as_hdf5(tmp_path / "x.h5", FACES))
    with h5py.File(path) as file:
        chunk = file["data32x32"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(data)
    found = contents(str(path), tmp_path)
    assert "damaged in the file" in str(found.pop("00002.png"))
    assert [pixel_hash(decode(data)) for data in found.values() if isinstance(data, bytes)] == HASHES[:2] + HASHES[3:]


def test_an_hdf5_file_gives_nothing_that_lies_outside_it(tmp_path: Path) -> None:
    as_hdf5(tmp_path / "secret.h5", FACES)
    (tmp_path / "secret.bin").write_bytes(bytes(3 * 16 * 16))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data1024x1024"] = h5py.ExternalLink("secret.h5", "/data32x32")
        file.create_dataset("data16x16", (1, 3, 16, 16), np.uint8, external=str(tmp_path / "secret.bin"))
    with pytest.raises(SourceError, match="no pictures in it"):
        contents(str(tmp_path / "x.h5"), tmp_path)


def test_hdf5_pictures_too_large_are_named_and_never_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data20000x20000", (2, 3, 20_000, 20_000), np.uint8, chunks=(1, 3, 100, 100))
    source = open_archive(str(tmp_path / "x.h5"), tmp_path)
    assert [entry.problem[:9] for entry in source.entries()] == ["too large"] * 2
    with pytest.raises(SourceError, match="too large"):
        source.read(0)


# CelebAMask-HQ

NUMBERED = {f"{number}.jpg": f"picture {number}".encode() for number in (0, 10, 2, 1, 100)}


@pytest.mark.parametrize("form", ["zip", "unpacked", "its folder", "object store"])
def test_of_celebamask_hq_only_the_pictures_are_taken_by_number(form: str, store: Store, tmp_path: Path) -> None:
    path = as_celebamask(tmp_path / "CelebAMask-HQ.zip", NUMBERED)
    if form != "zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "set")
        path = str(tmp_path / "set")
    if form == "its folder":
        path = str(tmp_path / "set" / "CelebAMask-HQ")
    if form == "object store":
        path = store.put(path, tmp_path.name)
    found = contents(path, tmp_path)
    assert found == NUMBERED
    assert list(found) == ["0.jpg", "1.jpg", "2.jpg", "10.jpg", "100.jpg"]


# columns


def labelled(path: Path, rows: int = 5) -> str:
    table = pa.table(
        {
            "image": pa.array([{"bytes": data} for data in FACES.values()][:rows]),
            "split": ["train", "test", None, "train", "valid"][:rows],
            "person": list(range(rows)),
        }
    )
    pq.write_table(table, path)
    return str(path)


def test_entries_of_parquet_carry_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = labelled(tmp_path / "a.parquet")
    found = [entry.labels for entry in open_archive(path, tmp_path, ["split", "person"]).entries()]
    splits = ["train", "test", "", "train", "valid"]
    assert found == [{"split": split, "person": str(person)} for person, split in enumerate(splits)]
    assert all(entry.labels == {} for entry in open_archive(path, tmp_path).entries())
    labelled(tmp_path / "b.parquet", rows=2)
    for several in (str(tmp_path), str(tmp_path / "*.parquet"), str(tmp_path / "{a,b}.parquet")):
        assert len([entry.labels["person"] for entry in open_archive(several, tmp_path, ["person"]).entries()]) == 7


@pytest.mark.parametrize("column", ["smile", "image"])
def test_a_column_that_does_not_exist_or_holds_no_text_is_an_error_that_names_those_there_are(
    column: str, tmp_path: Path
) -> None:
    source = open_archive(labelled(tmp_path / "x.parquet"), tmp_path, [column])
    with pytest.raises(SourceError, match=rf"x\.parquet: no column '{column}' .*there are: split, person"):
        list(source.entries())


@pytest.mark.parametrize("kind", sorted(kind for kind in [*ARCHIVES, *RASTERS] if "parquet" not in kind))
def test_columns_of_anything_but_parquet_are_an_error(kind: str, tmp_path: Path) -> None:
    path = (ARCHIVES | RASTERS)[kind](tmp_path, FACES)
    with pytest.raises(SourceError, match=r"has no columns .*only Parquet has"):
        open_archive(path, tmp_path, ["split"])


# fsspec


class Ranges(SimpleHTTPRequestHandler):
    """Files with byte ranges, as servers of data sets have them."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        file = Path(self.translate_path(self.path))
        if "private" in self.path:
            return self.send_error(403)
        if not asked or not file.is_file():
            return super().do_GET()
        data = file.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def do_HEAD(self) -> None:
        return self.send_error(403) if "private" in self.path else super().do_HEAD()

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path / "www"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "parquet", "CelebAMask-HQ", *RASTERS])
def test_an_archive_is_read_from_a_web_server(kind: str, web: str, tmp_path: Path) -> None:
    path = Path((ARCHIVES | RASTERS)[kind](tmp_path / "www", FACES))
    assert hashes(f"{web}/{path.name}", tmp_path / "scratch") == HASHES
    assert hashes(f"{web}/{path.name}?token=secret", tmp_path / "scratch") == HASHES


def test_what_a_web_server_has_not_is_an_error_that_shows_no_credentials(web: str, tmp_path: Path) -> None:
    address = web.replace("http://", "http://user:pass@")
    with pytest.raises(SourceError, match=r"gone\.zip: no such file") as raised:
        contents(f"{address}/gone.zip?token=secret", tmp_path)
    for word in ("secret", "user", "pass"):
        assert word not in str(raised.value)
    with pytest.raises(SourceError, match=r"private\.zip: 403") as raised:
        contents(f"{address}/private.zip?token=secret", tmp_path)
    assert "secret" not in str(raised.value)
    with pytest.raises(SourceError, match=r"^http://127\.0\.0\.1:1/x\.zip: Cannot connect") as raised:
        contents("http://127.0.0.1:1/x.zip?token=secret", tmp_path)
    assert "secret" not in str(raised.value)


def test_folders_patterns_and_columns_are_read_through_fsspec(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, data in FACES.items():
        memory.pipe(f"/{tmp_path.name}/set/{name}", data)
    memory.pipe(f"/{tmp_path.name}/x.parquet", Path(labelled(tmp_path / "x.parquet")).read_bytes())
    memory.pipe(
        f"/{tmp_path.name}/t-r10.tfrecords", Path(as_tfrecords(tmp_path / "t-r10.tfrecords", FACES)).read_bytes()
    )
    root = f"memory://{tmp_path.name}"
    assert contents(f"{root}/set", tmp_path) == FACES
    assert contents(f"{root}/set/*.png", tmp_path) == FACES
    assert hashes(f"{root}/t-r10.tfrecords", tmp_path) == HASHES
    found = [entry.labels["split"] for entry in open_archive(f"{root}/x.parquet", tmp_path, ["split"]).entries()]
    assert found == ["train", "test", "", "train", "valid"]
    with pytest.raises(SourceError, match="no such file"):
        contents(f"{root}/gone.zip", tmp_path)


def test_a_place_of_fsspec_can_be_written_and_listed(tmp_path: Path) -> None:
    root = StoragePath.of(f"memory://{tmp_path.name}-w/out")
    (root / "a/b.bin").write_bytes(b"written")
    assert (root / "a/b.bin").read_bytes() == b"written"
    assert [name for name, _, _ in root.files()] == ["a/b.bin"]


def test_what_a_web_server_cannot_take_is_an_error_that_says_so(web: str) -> None:
    with pytest.raises(StorageError, match="http://… cannot be written to or listed"):
        StoragePath.of(f"{web}/out.zip").write_bytes(b"x")


def test_a_hub_without_its_library_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SourceError, match=r"hf://datasets/a/b: needs .*pip install -e '\.\[hub\]' in its checkout$"):
        contents("hf://datasets/a/b", tmp_path)


@pytest.mark.parametrize("scheme", ["nonsense", "local", "simplecache", "zip", "reference"])
def test_an_unknown_scheme_and_one_that_is_no_place_are_refused(scheme: str) -> None:
    with pytest.raises(StorageError, match="no such kind of place"):
        StoragePath.of(f"{scheme}://bucket/x.zip")
    assert "secret" not in shown("sftp://user:secret@host/x?password=secret")


# memory


def test_an_open_zip_of_many_members_is_small_in_every_worker(tmp_path: Path) -> None:
    count = 20_000
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(count):
            archive.writestr(f"{index % 100:02d}/face-{index:06d}.png", b"x")
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    contents(str(tmp_path / "few.zip"), tmp_path)  # what is imported for the first one is not the archive's
    source = open_archive(str(tmp_path / "many.zip"), tmp_path)
    tracemalloc.start()
    try:
        sizes = [entry.size for entry in source.entries()]
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [1] * count
    assert held < 250 * count  # a list of them as zipfile makes it takes some 700 bytes each
    assert source.read(count - 1) == b"x"

"""`facesr upscale` from and to an object store."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.archives import as_folder, as_zip
from support.object_store import NO_SERVER, Store, s3_server
from support.upscaling import encoded, make_models, pictures, said, upscale

from pipeline.storage.path import StoragePath

FILES = {name: encoded(index) for index, name in enumerate(("a.png", "deep/b.png", "deep/c.png"))}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.mark.parametrize("container", [as_zip, as_folder], ids=["zip", "folder"])
@pytest.mark.parametrize("output", ["out", "out.zip", "out.parquet", "shards"])
def test_a_bucket_gives_and_takes_what_a_disk_does(
    container, output: str, model: Path, tmp_path: Path, store: Store
) -> None:
    files = FILES | {"cut.png": FILES["a.png"][:200]}
    source = container(tmp_path / ("in.zip" if container is as_zip else "in"), files)
    remote = store.put(source, tmp_path.name)
    options = ("--model", model, "--workers", 1, *(("--to", "parquet") if output == "shards" else ()))
    upscale(source, tmp_path / "local", "--model", model, "--workers", 1, code=1)
    place = StoragePath.of(store.uri(tmp_path.name)) / output
    upscale(remote, place.uri, *options, code=1)
    manifest = (
        place / "manifest.parquet" if output in ("out", "shards") else place.with_name(f"{output}.manifest.parquet")
    )
    with manifest.open() as handle:
        rows = {row["name"]: row for row in pq.read_table(handle).to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(FILES, "ok") | {"cut.png": "failed"}
    if output == "out":
        found = {name: (place / name).read_bytes() for name, _, _ in place.files() if name.endswith(".png")}
    elif output == "out.zip":
        with zipfile.ZipFile(io.BytesIO(place.read_bytes())) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    else:
        table = place / "pictures-00000.parquet" if output == "shards" else place
        images = [row["image"] for row in pq.read_table(io.BytesIO(table.read_bytes())).to_pylist()]
        found = {image["path"]: image["bytes"] for image in images}
    assert found == pictures(tmp_path / "local")
    left = [name for name, _, _ in place.parent.files() if ".facesr" in name]
    assert not left, "partial work is left behind"
    if output == "out":
        assert "nothing was left to do" not in said(upscale(remote, place.uri, *options, code=1)), "failed ones again"


def test_a_store_that_cannot_be_reached_is_said_and_nothing_starts(model: Path, tmp_path: Path, store: Store) -> None:
    address = f"s3://bucket/out?endpoint_override={NO_SERVER}&scheme=http"
    source = as_folder(tmp_path / "in", FILES)
    done = upscale(source, address, "--model", model, "--workers", 1, code=1)
    assert "cannot be reached" in said(done)
    done = upscale(address, tmp_path / "out", "--model", model, "--workers", 1, code=2)
    assert "cannot be reached" in said(done)
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_does_not_exist_is_said_before_anything_starts(model: Path, tmp_path: Path, store: Store) -> None:
    source = as_folder(tmp_path / "in", FILES)
    missing = store.uri("out").replace("//bucket/", "//no-such-bucket/")
    for ends in ((source, missing), (missing, tmp_path / "out")):
        done = upscale(*ends, "--model", model, "--workers", 1, code=2)
        assert "s3://no-such-bucket: no such bucket; create it, or correct the name" in said(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["user", "query"])
def test_nothing_that_is_written_or_said_holds_a_credential_or_a_folder_of_this_machine(
    form: str, model: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def secret(uri: str) -> str:
        if form == "user":
            return uri.replace("s3://", "s3://KEYKEY:SECRETSECRET@")
        return f"{uri}&access_key=KEYKEY&secret_key=SECRETSECRET"

    remote = secret(store.put(as_folder(tmp_path / "in", FILES | {"cut.png": b"x"}), f"{tmp_path.name}-{form}"))
    out = StoragePath.of(secret(store.uri(f"{tmp_path.name}-{form}"))) / "out"
    options = ("--model", model, "--workers", 1, "--manifest", "csv")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.bulk.run.write_manifest", lambda *_: (_ for _ in ()).throw(OSError("power loss")))
        words = [upscale(remote, place, *options, code=1).output for place in (tmp_path / "out", out.uri)]
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(b'"input_id"' in data for data in written), "the record of an unfinished run"
    written += [(out / name).read_bytes() for name, _, _ in out.files()]
    words += [upscale(remote, place, *options, code=1).output for place in (tmp_path / "out", out.uri)]
    words += [upscale(remote, remote, *options, "--overwrite", code=2).output]
    written += [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    written += [(out / name).read_bytes() for name, _, _ in out.files()]
    for data in (*written, *(text.encode() for text in words)):
        assert b"SECRET" not in data
        assert b"KEYKEY" not in data
    manifests = [
        pq.read_schema(tmp_path / "out/manifest.parquet"),
        pq.read_schema(io.BytesIO((out / "manifest.parquet").read_bytes())),
    ]
    for schema in manifests:
        record = json.loads(schema.metadata[b"facesr"])
        assert record["input"] == "in"
        assert record["output"] == "out"
        assert record["settings"]["fidelity"] == "fidelity.safetensors"
        assert str(tmp_path) not in schema.metadata[b"facesr"].decode()

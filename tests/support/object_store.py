"""An S3 server of one's own, on this machine: moto's."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.storage.path import StoragePath

NO_SERVER = "127.0.0.1:1"
"""An endpoint where nothing listens."""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "",
    "AWS_ENDPOINT_URL_S3": "",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Store:
    """A running server with one bucket."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self._request("PUT", "bucket")

    def uri(self, key: str) -> str:
        return f"s3://bucket/{key}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def put(self, path: str, key: str) -> str:
        """Copy a local file or folder to `key/<its name>`, and return that as a URI."""
        local, target = StoragePath.of(path), StoragePath.of(self.uri(key)) / Path(path).name
        if local.is_file():
            target.write_bytes(local.read_bytes())
        for name, _, _ in local.files() if local.is_dir() else ():
            (target / name).write_bytes((local / name).read_bytes())
        return target.uri

    @contextmanager
    def locked(self) -> Iterator[None]:
        """From here on no credentials are good."""
        self._request("POST", "moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._request("POST", "moto-api/reset-auth", b"inf")

    def _request(self, method: str, path: str, data: bytes = b"") -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"http://{self.endpoint}/{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30):
            pass


@contextmanager
def s3_server() -> Iterator[Store]:
    """Start a server on a free port; credentials are set in the environment meanwhile."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        try:
            host, port = server.get_host_and_port()
            yield Store(f"{host}:{port}")
        finally:
            server.stop()

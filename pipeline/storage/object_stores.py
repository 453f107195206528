"""Object stores: addresses, connections and what their errors mean.

S3 is configured as its own tools are (AWS_ACCESS_KEY_ID …, ~/.aws, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) or in the
URI: `s3://bucket/folder?endpoint_override=host:9000&scheme=http&region=us-east-1&anonymous=true`. Keys are taken as
they are written: `%20` is not a space.

Other kinds (`hf://datasets/…`, `https://…`) are reached through fsspec.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pyarrow as pa

from pipeline.core.errors import FacesrError, first_line
from pipeline.storage import fsspec_bridge

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
SHOWN = {
    "endpoint_override": r"(https?://)?[\w.-]+(:\d+)?/?",
    "scheme": "https?",
    "region": r"[a-z]{2,}(-[a-z]+)+-\d+|auto",
    "anonymous": "(?i)true|false|yes|no|[01]",
}
"""What may be shown of a URI's query, and what values of it look like; the rest could be credentials."""
CONNECT_SECONDS, STALL_SECONDS = 5, 10
SHORT = 3
"""Characters of what is too short to be a secret, and would be found in ordinary words."""
SMALL = 4 << 20
"""Bytes that are less than a piece of an upload."""
ADVICE = {
    "NO_SUCH_BUCKET|NoSuchBucket|Bucket .* not found": "no such bucket",
    "NETWORK_CONNECTION|UNAVAILABLE|Could not connect|Could not resolve|DEADLINE_EXCEEDED": (
        "the store cannot be reached; check the network and the endpoint"
        " (AWS_ENDPOINT_URL, or ?endpoint_override=host:port&scheme=http in the URI)"
    ),
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENT": (
        "access denied; check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials)"
        " and their right to this bucket"
    ),
    "HTTP status 301|PermanentRedirect|AuthorizationHeaderMalformed": (
        "the bucket lies in another region; add ?region=… to the URI"
    ),
}
"""Pattern in a store's error -> what to tell the user."""


class StorageError(FacesrError, OSError):
    """A path or store that cannot be reached or used; the message is one line: which, what is wrong, what to do."""


class NoBucketError(StorageError):
    """A bucket that does not exist: trying again does not help."""


def scheme_of(text: str) -> str:
    """`s3` of `s3://…`, in small letters; empty for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else ""


def split(uri: str) -> tuple[str, str, str]:
    """Root (`scheme://user@bucket`), key and query of a URI.

    A `?` starts a query only where `name=` follows, since keys may hold one; in an HTTP address every `?` does, and
    what follows a `#` is no part of it.

    Raises:
        StorageError: it has no bucket, or is of a kind that cannot be read.
    """
    scheme = scheme_of(uri)
    web = scheme in ("http", "https")
    key = r"([^?#]*?)/*(?:\?([^#]*))?(?:#.*)?" if web else r"(.*?)/*(?:\?((?:[\w.;%-]+=[^?]*)?))?"
    found = re.fullmatch(rf"(?s)[^:]+://([^/?]+)/*{key}", uri)
    if found is None or not (scheme in SCHEMES or fsspec_bridge.reaches(scheme)):
        kinds = "a path, s3://bucket/…, gs://bucket/…, hf://datasets/… or https://…"
        raise StorageError(f"{scheme}://…: no such kind of place; use {kinds}")
    if scheme in ("s3", "gs", "gcs") and ":" in found[1].rpartition("@")[2]:
        raise StorageError(f"{scheme}://…: not an address; a `/` in a secret key must be written %2F")
    return f"{scheme}://{found[1]}", found[2], found[3] or ""


def join(root: str, key: str, query: str) -> str:
    """The URI of what `split` gave."""
    return root + (f"/{key}" if key else "") + (f"?{query}" if query else "")


def shown(uri: str) -> str:
    """A URI as users may see it: without credentials."""
    root, key, query = split(uri)
    scheme, _, authority = root.partition("://")
    user, _, host = authority.rpartition("@")
    # abfs names the container before the @
    harmless = user == "anonymous" or (scheme.startswith("abfs") and ":" not in user)
    kept = [f"{name}={value}" for name, value in parse_qsl(query) if re.fullmatch(SHOWN.get(name, "(?!)"), value)]
    return join(f"{scheme}://{authority if harmless else host}", key, "&".join(kept))


def missing(address: str) -> FileNotFoundError:
    """The error for a file that is not there."""
    return FileNotFoundError(errno.ENOENT, "no such file or folder", address)


def _without_credentials(text: str, uri: str) -> str:
    """A store's text without what of a URI is not shown, in case that the store repeats it."""
    root, _, query = split(uri)
    secrets = re.split("[:@]", root.partition("://")[2].rpartition("@")[0])
    secrets += [value for name, value in parse_qsl(query) if name not in SHOWN]
    for secret in {form for value in secrets for form in (value, unquote(value)) if len(form) > SHORT}:
        text = text.replace(secret, "…")
    return text


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what a store raises into a FileNotFoundError or StorageError of one line; for local paths do nothing."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        scheme = scheme_of(uri)
        # fsspec's file systems raise what their libraries do, pyarrow's only these
        if not scheme or (scheme in SCHEMES and not isinstance(error, OSError | pa.ArrowException)):
            raise
        if isinstance(error, FileNotFoundError):
            raise missing(shown(uri)) from None
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, NotImplementedError):
            text = f"{scheme}://… cannot be written to or listed, only read file by file"
        text = _without_credentials(text if scheme in SCHEMES else fsspec_bridge.scrubbed(text), uri)
        known = ADVICE.items() if scheme in SCHEMES else ()
        advice = next((advice for pattern, advice in known if re.search(pattern, text)), text[:300])
        # not `from error`: a traceback would show what was kept out of the message
        raise StorageError(f"{shown(uri)}: {advice}") from None


def connect(uri: str, late: bool = False) -> tuple[Any, str]:
    """The pyarrow file system of a remote URI, and the path in it; connections are kept.

    Args:
        uri: of a bucket, folder or file.
        late: open output streams with their first piece, not before (S3).

    Raises:
        OSError, pyarrow.ArrowException: the store cannot be reached, within about 20 seconds (see `explained`).
    """
    root, key, query = split(uri)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    filesystem, base = _connected(root, query, endpoint, late)
    if scheme_of(uri) in ("http", "https"):
        return filesystem, join(base, key, query)
    return filesystem, f"{base}/{key}" if key else base


def open_native(uri: str) -> pa.NativeFile:
    """Open a remote file, seekable; only what is asked for is fetched."""
    with explained(uri):
        filesystem, path = connect(uri)
        return filesystem.open_input_file(path)


def upload(source: Path, uri: str) -> None:
    """Write a file to a store, complete or not at all."""
    from pyarrow import fs

    size = source.stat().st_size
    # A stream that opens late sends a small file in one request instead of three. A large one it could leave
    # empty: when the first of its requests fails, the stream's end still writes what it holds, which is nothing.
    filesystem, path = connect(uri, late=size <= SMALL)
    if not isinstance(filesystem, fs.S3FileSystem | fs.GcsFileSystem):  # those have no folders
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    # by default pyarrow would compress what is called .gz once more
    stream = filesystem.open_output_stream(path, compression=None)
    try:
        stream.write(pa.memory_map(str(source)).read_buffer() if size else b"")
    except BaseException:
        # it stays invisible: a stream that has lost a piece never completes its upload
        with suppress(OSError):
            stream.close()
        raise
    # not left to the destructor, which would swallow a failed upload
    stream.close()


class RemoteFile(RawIOBase):
    """A remote file open for reading whose errors are those of `explained`, also in the middle of a file."""

    def __init__(self, uri: str):
        self._uri, self._file = uri, open_native(uri)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; how many bytes there were."""
        with explained(self._uri):
            return int(self._file.readinto(buffer))

    def readall(self) -> bytes:
        """All that is left, as one request."""
        with explained(self._uri):
            return bytes(self._file.read())

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self._file.close()
        super().close()


@lru_cache(maxsize=32)
def _connected(root: str, query: str, endpoint: str, late: bool) -> tuple[Any, str]:
    """File system of a bucket, and the path of the bucket in it."""
    from pyarrow import fs

    scheme, _, authority = root.partition("://")
    options: dict[str, Any] = dict(parse_qsl(query))
    if scheme.lower() not in SCHEMES:
        return fsspec_bridge.connect(root, query)
    if scheme != "s3":
        if scheme in ("gs", "gcs"):
            options.setdefault("retry_limit_seconds", STALL_SECONDS)  # else a quarter of an hour
        filesystem, base = fs.FileSystem.from_uri(join(root, "", urlencode(options)))
        return filesystem, base.rstrip("/")
    user, _, bucket = authority.rpartition("@")
    access, _, secret = user.partition(":")
    if access:
        options |= {"access_key": unquote(access), "secret_key": unquote(secret)}
    if endpoint and "endpoint_override" not in options:
        options |= {"scheme": urlsplit(endpoint).scheme, "endpoint_override": urlsplit(endpoint).netloc}
    if "anonymous" in options:
        options["anonymous"] = options["anonymous"].lower() in ("1", "true", "yes")
    if "endpoint_override" in options:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options.setdefault("region", region)
    elif "region" not in options:
        options["region"] = fs.resolve_s3_region(bucket)

    def client(attempts: int) -> Any:
        return fs.S3FileSystem(
            **options,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=STALL_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
            allow_delayed_open=late,
        )

    try:
        # a store that is not there is found out soon; one that is there may be busy for a while
        missing = client(1).get_file_info(bucket).type == fs.FileType.NotFound
    except TypeError as error:
        raise StorageError(f"s3://{bucket}: an option behind the ? that is not known: {first_line(error)}") from error
    except OSError as error:
        if "NETWORK_CONNECTION" in str(error):
            raise
        missing = False  # not every key may ask for it
    if missing:
        raise NoBucketError(f"s3://{bucket}: no such bucket; create it, or correct the name")
    return client(5), bucket

"""Errors that a user can do something about, and what a message or page may say: one line, no secret, no folder of
this machine.
"""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^\s/'\"]*(?:/[^\s'\"@]*)?@(?=[\w.-])")
_SECRETS = re.compile(r"([?&;]\w*(?:key|secret|token|password|signature|credential|sig)\w*=)[^&\s'\"]*", re.IGNORECASE)
_PLACE = re.compile(r"""[a-z][\w+.-]*://[^\s'"<>|]+|(?<![^\s'"(=\[])(?:[a-z]:[\\/]|[\\/])[^\s'"<>|:]+""", re.IGNORECASE)


class FacesrError(Exception):
    """What is wrong with input, settings, files or machine; the message is for the user and says what to do.

    Commands and stages print these as one line. Any other exception is a bug and keeps its traceback.

    FacesrError
    ├── ParamsError            params.yaml
    ├── StageError             a stage cannot complete
    ├── WorkerError            a Ray worker raised or kept dying
    ├── NoRoomError            no node is large enough for a worker
    ├── UnreachableError       a Ray cluster that does not answer
    ├── RayVersionError        a Ray that cannot be kept on this machine
    ├── ReplaceError           what is there was not written by the command
    ├── ImageError             a picture that cannot be used
    ├── DecodeTimeError        a picture that takes too long to decode
    ├── DegradationError       what a generator cannot be told
    ├── NotFiniteError         a result of NaN or infinite values
    ├── XmpError               metadata that are left out
    ├── ShardError             a Parquet file of ours that cannot be read
    ├── SourceError            an archive that cannot be read
    ├── StorageError           a path or object store; also an OSError; NoBucketError where there is no such bucket
    ├── WeightsError           pretrained networks
    ├── ModelError             our weights files
    ├── RegistryError, ExportError, CardError, PublishError  `facesr models`
    ├── NoModelError           there are none
    ├── MatchError             pictures of which none belongs to another
    ├── IngestError, SplitError, ListError, PairsError
    ├── ForgottenError         the list of forgotten pictures
    ├── LineageError           nothing is known of where something comes from
    ├── ManifestError          a pairs manifest that does not go with inputs or settings
    ├── OutOfMemoryError, DivergedError, NoOriginalsError, NoSpandrelError, ResultError
    ├── JobError, OutputError, ClusterError, StrictError, ViewError
    └── FacesError             too few faces to adapt to
    """


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message; its kind where it has none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def without_secrets(text: str) -> str:
    """A message with addresses as they were given, but for user, password and keys in them."""
    return _SECRETS.sub(r"\1…", _CREDENTIALS.sub("", text))


def only_names(text: str) -> str:
    """A text for others' eyes: of addresses and absolute paths only the last name is left."""
    if re.match(r"[a-z][\w+.-]*://|[a-z]:[\\/]|[\\/]", text, re.IGNORECASE):
        return _last_name(text)  # a path alone, which may have spaces in it
    return _PLACE.sub(lambda found: _last_name(found[0]), text)


def _last_name(text: str) -> str:
    path = text.partition("?")[0] if "://" in text else text
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1].rpartition("@")[2] if path.strip("\\/") else path

"""Errors that a user can do something about, and how an error is put on one line."""


class FacesrError(Exception):
    """What is wrong with input, settings, files or machine; the message is for the user and says what to do.

    Commands and stages print these as one line. Any other exception is a bug and keeps its traceback.

    FacesrError
    ├── ParamsError            params.yaml
    ├── StageError             a stage cannot complete
    ├── WorkerError            a Ray worker raised or kept dying
    ├── NoRoomError            no node is large enough for a worker
    ├── RayVersionError        a Ray that cannot be kept on this machine
    ├── ImageError             a picture that cannot be used
    ├── ShardError             a Parquet file of ours that cannot be read
    ├── SourceError            an archive that cannot be read
    ├── StorageError           a path or object store; also an OSError
    ├── WeightsError           pretrained networks
    ├── ModelError             our weights files
    │   └── NoModelError       there is none
    ├── IngestError, SplitError, ListError, PairsError
    ├── ManifestError          a pairs manifest that does not go with inputs or settings
    ├── OutOfMemoryError, DivergedError, NoRoomError, NoOriginalsError, NoSpandrelError, ResultError
    ├── JobError, OutputError, ClusterError, StrictError, ViewError
    └── FacesError             too few faces to adapt to
    """


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message; its kind where it has none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""Errors that a user can do something about, and how an error is put on one line."""


class FacesrError(Exception):
    """What is wrong with input, settings, files or machine; the message is for the user and says what to do.

    Commands and stages print these as one line. Any other exception is a bug and keeps its traceback.

    FacesrError
    ├── ParamsError            params.yaml
    ├── StageError             a stage cannot complete
    ├── WorkerError            a Ray worker raised or kept dying
    ├── ImageError             a picture that cannot be used
    ├── SourceError            an archive that cannot be read
    ├── StorageError           a path or object store; also an OSError
    ├── WeightsError           pretrained networks
    ├── ModelError             our weights files
    │   └── NoModelError       there is none
    ├── MatchError             pictures of which none belongs to another
    ├── IngestError, SplitError, ListError
    ├── OutOfMemoryError, DivergedError, NoOriginalsError, NoSpandrelError
    ├── JobError, OutputError, ClusterError, ViewError
    └── FacesError             too few faces to adapt to
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its kind where it has none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

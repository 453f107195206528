"""JPEGs that lack nothing but their end mark."""


def with_end_mark(data: bytes) -> bytes | None:
    """A JPEG, whose size has been checked, with the end mark that it lacks; None if it lacks more, or nothing.

    Decoders go on with grey where a file breaks off, so a strict one has to say that it does not. On a bare machine
    there is none.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(b"\xff\xd9"):
        return None
    ended = data + b"\xff\xd9"
    return ended if _sound(ended) and not _sound(data) else None


def _sound(data: bytes) -> bool:
    try:
        import simplejpeg
    except ImportError:
        return False
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data, {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB"), strict=True)
    except ValueError:
        return False
    return True

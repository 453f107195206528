"""JPEGs that lack nothing but their end mark."""


def with_end_mark(data: bytes) -> bytes | None:
    """A JPEG, whose size has been checked, with the end mark that it lacks; None if it lacks more, or none can tell.

    Decoders go on with grey where a file breaks off, so a strict one has to say that it does not. On a bare machine
    there is none.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(b"\xff\xd9"):
        return None
    try:
        import simplejpeg
    except ImportError:
        return None
    ended = data + b"\xff\xd9"
    try:
        space = simplejpeg.decode_jpeg_header(ended)[2]
        simplejpeg.decode_jpeg(ended, {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB"), strict=True)
    except ValueError:
        return None
    return ended

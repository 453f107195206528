"""What messages and pages say of addresses and paths: no credential, and for others' eyes only names."""

import pytest

from pipeline.core.errors import only_names, without_secrets


@pytest.mark.parametrize(
    ("text", "names", "safe"),
    [
        ("s3://KEY:SE/C@bucket/a/in?secret_key=X&region=y", "in", "s3://bucket/a/in?secret_key=…&region=y"),
        ("s3://KEY:SECRET@bucket", "bucket", "s3://bucket"),
        ("s3://b/x?access_key=A&session_token=B&endpoint=e", "x", "s3://b/x?access_key=…&session_token=…&endpoint=e"),
        ("read s3://K:S@b/x.png: 403", "read x.png: 403", "read s3://b/x.png: 403"),
        ("/home/a b/My in/", "My in", "/home/a b/My in/"),
        (r"C:\Users\x\in.zip", "in.zip", r"C:\Users\x\in.zip"),
        ("no such file: '/home/u/x.png'", "no such file: 'x.png'", "no such file: '/home/u/x.png'"),
        ("1/2 of a/b.png, 60 / 3", "1/2 of a/b.png, 60 / 3", "1/2 of a/b.png, 60 / 3"),
        ("someone@example", "someone@example", "someone@example"),
        ("", "", ""),
    ],
)
def test_texts_lose_credentials_and_for_others_places_too(text: str, names: str, safe: str) -> None:
    assert (only_names(text), without_secrets(text)) == (names, safe)

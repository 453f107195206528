"""XMP is cut to what is true of a copy, in linear time, whatever it holds."""

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image
from support.pictures import jpeg, saved, static

from pipeline.codecs.metadata import Metadata, without_location
from pipeline.codecs.reader import read_picture
from pipeline.codecs.writer import encode_picture
from pipeline.codecs.xmp import LARGEST, XmpError, fit_for_copy
from pipeline.codecs.xmp import without_location as xmp_without_location

START = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
).encode()
END = b"</rdf:RDF></x:xmpmeta>" + b" " * 2000 + b'<?xpacket end="w"?>'
TIFF, EXIF = b'xmlns:t="http://ns.adobe.com/tiff/1.0/"', b'xmlns:e="http://ns.adobe.com/exif/1.0/"'
ULTRA_HDR = (
    START
    + b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    + b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    + b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    + b'dc:format="image/jpeg"><Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
    + b'Item:Semantic="GainMap" Item:Length="9"/></rdf:li></rdf:Seq></Container:Directory></rdf:Description>'
    + END
)


def with_xmp(packet: bytes) -> bytes:
    return jpeg(static(1, 16), xmp=packet)


def test_a_packet_in_which_nothing_is_stale_is_copied_byte_for_byte() -> None:
    packet = START + b"<rdf:Description " + TIFF + b" t:Make='A &amp; B'><!-- a word --></rdf:Description>" + END
    assert fit_for_copy(packet) == (packet, [])


def test_properties_are_known_by_their_namespace_and_not_by_their_prefix() -> None:
    inner = b"<rdf:Description " + TIFF + b" " + EXIF + b' t:Orientation="6" t:Make="A &lt;&quot; B">'
    inner += b"<e:PixelXDimension>7</e:PixelXDimension>text &amp; more</rdf:Description>"
    kept, gone = fit_for_copy(START + inner + END)
    assert gone == []
    assert b"Orientation" not in kept
    assert b"PixelXDimension" not in kept
    assert b"text &amp; more" in kept
    assert b"A &lt;" in kept
    assert fit_for_copy(kept) == (kept, [])


SLOW = {
    "spaces": b" " * 900_000,
    "spaces in a packet": START + b" " * 900_000 + END,
    "elements": START + b"<a/>" * 500_000 + END,
    "attributes": START + b"<a " + b" ".join(b'b%d=""' % n for n in range(150_000)) + b"/>" + END,
    "open elements": b"<a>" * 500_000,
    "open thumbnails": b"<xmp:Thumbnails>" * 50_000,
    "entities": b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">]><a>&b;</a>',
    "too large": START + b" " * LARGEST + END,
}


@pytest.mark.parametrize("kind", SLOW)
def test_time_is_linear_in_the_size_of_a_packet_and_what_is_left_out_is_told(kind: str) -> None:
    start = time.monotonic()
    metadata = read_picture(saved(Image.fromarray(static(1, 16)), "WEBP", xmp=SLOW[kind])).metadata
    # with regular expressions it was minutes to hours; seconds are for a busy machine
    assert time.monotonic() - start < 10
    if metadata.xmp is None:
        assert metadata.lost[0].startswith("XMP left out: ")
    else:
        assert kind in ("spaces in a packet", "elements", "attributes")


def test_nothing_is_fetched_or_expanded() -> None:
    for packet in (SLOW["entities"], b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'):
        with pytest.raises(XmpError, match="document type"):
            fit_for_copy(packet)


def test_an_ultra_hdr_jpeg_gives_up_its_gain_map_and_every_claim_to_it_and_says_so() -> None:
    picture = read_picture(with_xmp(ULTRA_HDR))
    assert "HDR gain map left out" in picture.remarks
    result = encode_picture(picture.pixels, picture.metadata, "jpeg", 95, {})
    for word in (b"hdrgm", b"GainMap", b"Container", b"hdr-gain-map"):
        assert word in ULTRA_HDR
        assert word not in result
    assert b'dc:format="image/jpeg"' in result


def test_a_motion_photo_no_longer_claims_its_video() -> None:
    inner = b'<rdf:Description xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" '
    picture = read_picture(with_xmp(START + inner + b'GCamera:Other="2"/>' + END))
    assert picture.metadata.lost == ("motion video left out",)
    assert b"MotionPhoto" not in (picture.metadata.xmp or b"")
    assert b'GCamera:Other="2"' in (picture.metadata.xmp or b"")


def test_utf_16_becomes_the_utf_8_that_containers_want() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><a b="é"/>'
    assert fit_for_copy(text.encode("utf-16"))[0].decode() == '<a b="é"></a>'


def test_a_location_goes_from_exif_xmp_and_text_and_the_rest_stays() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x8825] = "Maker", {1: "N", 2: (47.0, 30.0, 0.0)}
    inner = b"<rdf:Description " + EXIF + b" e:GPSLatitude='47,30N' e:ExposureTime='1/2' photoshop:City='Zug'/>"
    keys = "exif:GPSInfo City Location: Sub-location latitude GPS:AreaInformation geo:lat iptc:City:en CityName"
    places = dict.fromkeys((*keys.split(" "), "IPTC:Country Name", "Capture location"), "Zug")
    others = {"Title": "t", "Capacity": "2", "Allocation": "3", "Crop coordinates": "4"}
    metadata = Metadata(exif=exif.tobytes()[6:], xmp=START + inner + END, text=places | others)
    kept = without_location(metadata)
    for kind in ("png", "jpeg", "webp"):
        result = encode_picture(np.zeros((8, 8, 3), np.uint8), kept, kind, 90, {})
        image = Image.open(io.BytesIO(result))
        assert image.getexif()[0x010F] == "Maker"
        assert not image.getexif().get_ifd(0x8825)
        assert b"GPS" not in result
        assert b"Zug" not in result
        assert b"ExposureTime" in result
    assert kept.text == others
    assert xmp_without_location(metadata.xmp or b"") == kept.xmp


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_claims_the_same_bytes_over_and_over_is_left_out_at_once(kind: str) -> None:
    count, size = 20_000, 1_000_000
    entries = b"".join(struct.pack(">HHII", 1000 + n, 7, size - 300_000, 10) for n in range(count))
    bomb = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, count) + entries + bytes(size)
    start = time.monotonic()
    picture = read_picture(saved(Image.fromarray(static(1, 16)), kind, exif=bomb))
    assert time.monotonic() - start < 10
    assert picture.metadata.exif is None
    assert picture.remarks == ["EXIF left out: it claims the same bytes over and over"]

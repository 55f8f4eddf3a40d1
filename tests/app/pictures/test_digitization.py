"""From files and strokes to pixels: every kind of file gives the same digit, and wrong files are refused."""

from __future__ import annotations

import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

from app.errors import InvalidInput, TooLarge
from app.pictures import digitization
from app.pictures.bodies import read_json
from app.pictures.containers import Unreadable, read_container
from app.pictures.digitization import Digitization, digitize
from tests.app.pictures.files import chunk, encode, exif, flat_png, photo_of, seven


def pixels_of(file: bytes) -> np.ndarray:
    return digitize(read_container(file)).pixels.astype(int)


SEVEN = pixels_of(encode(seven()))
PALETTE = seven().convert("P")
WIDE = Image.fromarray(np.asarray(seven()).astype(np.uint16) * 257)
WITH_ALPHA = Image.merge("LA", (Image.new("L", (280, 280), 0), seven(ink=255, paper=0)))
GREEN, RED = (Image.new("RGB", (280, 280), color) for color in ((0, 130, 0), (255, 0, 0)))
BROKEN_EXIF = b"Exif\0\0MM\0*\xff\xff\xff\xff"
FILES = {
    **{f"PNG {mode}": encode(seven(mode=mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "PNG of 16 bits": encode(WIDE),
    "PNG of 12 in 16 bits": encode(Image.fromarray(np.asarray(seven()).astype(np.uint16) * 16)),
    "PNG of 2 bits": encode(seven().quantize(4), bits=2),
    "PNG, transparent": encode(WITH_ALPHA),
    "PNG, transparent palette": encode(PALETTE, transparency=PALETTE.getpixel((0, 0))),
    "PNG, transparent grey": encode(seven(ink=60, paper=0), transparency=0),
    "PNG, white on black": encode(seven(ink=255, paper=0)),
    "PNG, grey on grey": encode(seven(ink=100, paper=140)),
    "PNG, animated": encode(seven(), save_all=True, append_images=[Image.new("L", (280, 280), 9)]),
    "PNG, on its head": encode(seven().rotate(180), exif=exif(3)),
    "PNG, red on a green as bright": encode(Image.composite(GREEN, RED, seven())),
    "JPEG": encode(seven(mode="RGB"), "JPEG"),
    "JPEG, progressive": encode(seven(mode="RGB"), "JPEG", progressive=True),
    "JPEG, CMYK": encode(seven(mode="CMYK"), "JPEG"),
    "JPEG, lying": encode(seven(mode="RGB").rotate(90), "JPEG", exif=exif(6)),
    "JPEG, broken Exif": encode(seven(), "JPEG", exif=BROKEN_EXIF),
    "JPEG, no such orientation": encode(seven(), "JPEG", exif=exif(99)),
    "JPEG, photo": photo_of(seven(600), 0),
    "JPEG, photo out of focus": photo_of(seven(600).filter(ImageFilter.GaussianBlur(4)), 1),
    "WEBP": encode(seven(), "WEBP"),
    "WEBP, lossless": encode(seven(mode="RGBA"), "WEBP", lossless=True),
    "WEBP, animated": encode(seven(), "WEBP", save_all=True, append_images=[Image.new("L", (280, 280), 9)]),
    "WEBP, lying": encode(seven(mode="RGB").rotate(-90), "WEBP", lossless=True, exif=exif(8)),
    "BMP": encode(seven(mode="RGB"), "BMP"),
    "BMP of 1 bit": encode(seven(mode="1"), "BMP"),
    "GIF": encode(seven(), "GIF"),
    "GIF, animated": encode(seven(), "GIF", save_all=True, append_images=[Image.new("L", (280, 280), 9)]),
    "GIF, transparent": encode(PALETTE, "GIF", transparency=PALETTE.getpixel((0, 0))),
    "28 × 28": encode(seven().resize((28, 28), Image.Resampling.BOX)),
    "2,000 × 2,000": encode(seven(2000)),
    "at the edge": encode(seven().crop((70, 40, 215, 240))),
}
LARGE = Image.new("L", (3000, 2000), 255)
LARGE.paste(seven(), (2300, 900))
FILES["a small digit in a large picture"] = encode(LARGE)


@pytest.mark.parametrize("name", FILES)
def test_the_same_digit_in_any_file_gives_the_same_pixels(name: str) -> None:
    difference = np.abs(pixels_of(FILES[name]) - SEVEN).mean()
    assert difference < (1.2 if name in ("28 × 28", "at the edge") or "photo" in name or "large" in name else 0.5)


@pytest.mark.parametrize(
    "file",
    [
        flat_png(1, 1),
        flat_png(280, 280),
        flat_png(20_000, 1),
        flat_png(1, 20_000),
        flat_png(4096, 4096),
        encode(Image.new("RGBA", (50, 50), (0, 0, 0, 0))),
        encode(Image.new("L", (50, 50), 0), "JPEG"),
        flat_png(20, 20, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 2**20)) * 80),  # texts are not unpacked
        flat_png(20, 20, chunk(b"iCCP", b"k\0\0" + zlib.compress(b"a" * 2**26))),
    ],
)
def test_a_blank_picture_is_64_zeros(file: bytes) -> None:
    assert pixels_of(file).tolist() == [0] * 64


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 1), (1, 5), (400, 3), (2, 700)])
def test_noise_of_any_shape_gives_pixels(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels = pixels_of(encode(Image.fromarray(noise)))
    assert (pixels.shape, pixels.min() >= 0, pixels.max() <= 16) == ((64,), True, True)


PNG, JPEG, GIF, BMP, WEBP = (encode(seven(mode="RGB"), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"))
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10\0"
RUNS = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 2001, 2000, 1, 8, 1, 0, 0, 0, 256, 0)
SHORT_RUNS = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 200, 200, 1, 8, 1, 0, 0, 0, 256, 0)
GIF_BLOCKS = 13 + (3 << (GIF[10] & 7) + 1 if GIF[10] & 0x80 else 0)  # where the GIF's blocks begin
REFUSED = {
    "nothing": (b"", "is empty"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a PNG"),
    "PDF": (b"%PDF-1.7\n", "is not a PNG"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not a PNG"),
    "TIFF": (encode(seven(), "TIFF"), "is not a PNG"),
    "PPM": (encode(seven(), "PPM"), "is not a PNG"),
    **{
        f"half a {kind}": (file[: len(file) // 2], "cut off")
        for kind, file in {"PNG": PNG, "JPEG": JPEG, "GIF": GIF, "BMP": BMP, "WEBP": WEBP}.items()
    },
    **{
        f"16 bytes of a {kind}": (file[:16], "cut off")
        for kind, file in {"PNG": PNG, "JPEG": JPEG, "GIF": GIF, "BMP": BMP, "WEBP": WEBP}.items()
    },
    "a wrong check sum": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "damaged"),
    "two headers": (flat_png(9, 9, chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))), "no header"),
    "no pixels": (flat_png(0, 5, data=b"x"), "0 × 5 pixels"),
    "a very long side": (flat_png(70_000, 1), "70,000 × 1 pixels"),
    "no data": (flat_png(500, 500, data=zlib.compress(b"")), "damaged"),
    "many chunks": (PNG[:33] + chunk(b"IDAT", b"") * 100_000 + PNG[33:], "too many parts"),
    "many segments": (JPEG[:2] + b"\xff\xe3\0\2" * 100_000 + JPEG[2:], "too many parts"),
    "many scans": (JPEG[:-2] + SCAN * 100 + JPEG[-2:], "101 scans"),
    "run lengths": (b"BM" + RUNS, "run-length encoded"),
    "long run lengths": (b"BM" + SHORT_RUNS + bytes(1_000_001), "more than 1,000,000 bytes"),
    "many blocks": (GIF[:GIF_BLOCKS] + b"\x21\xfe" + b"\1 " * 100_001 + b"\0" + GIF[GIF_BLOCKS:], "too many parts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_picture_is_refused_with_its_reason(name: str) -> None:
    file, reason = REFUSED[name]
    with pytest.raises(Unreadable, match=reason):
        pixels_of(file)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_file_cut_or_changed_anywhere_gives_pixels_or_is_unreadable(kind: str) -> None:
    file = encode(seven(60, mode="RGB"), kind)
    random = np.random.default_rng(0)
    for place in random.integers(0, len(file), 100).tolist():
        for changed in (file[:place], file[:place] + os.urandom(3) + file[place + 3 :]):
            try:
                if read_container(changed).width < 1000:  # a changed size may be a large one
                    assert pixels_of(changed).shape == (64,)
            except Unreadable:
                pass


def work_on(*files: bytes) -> Digitization:
    from base64 import b64encode

    body = json.dumps({"pictures": [b64encode(file).decode() for file in files]}).encode()
    return Digitization("application/json", b"application/json", body)


def test_all_headers_are_read_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digitization, "decode", lambda _: pytest.fail("decoded"))
    large = flat_png(4096, 4096)
    with pytest.raises(TooLarge) as refused:
        work_on(*[large] * 256)
    assert refused.value.errors[0].pointer == "#/pictures/1"
    with pytest.raises(InvalidInput) as wrong:
        work_on(large, b"x")
    assert wrong.value.errors[0].pointer == "#/pictures/1"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_sizes_are_those_that_the_decoder_sees(kind: str) -> None:
    for shape in ((1, 1), (300, 7), (7, 300)):
        container = read_container(encode(Image.new("RGB", shape), kind))
        assert (container.kind, container.width, container.height) == (kind, *shape)


def test_a_picture_that_takes_too_much_memory_is_refused() -> None:
    progressive = encode(Image.new("RGB", (5000, 5000)), "JPEG", progressive=True)
    with pytest.raises(TooLarge, match="175 MB"):
        work_on(progressive)
    with pytest.raises(TooLarge, match="268 MB"):
        work_on(encode(Image.new("RGB", (4096, 4096)), "WEBP", lossless=True, method=0, quality=0))


def test_work_goes_on_in_slices() -> None:
    work = work_on(*[PNG] * 3)
    for _ in range(3):
        assert not work.is_finished
        work.go_on(0)
    assert work.is_finished
    assert work.result.pixels.tolist() == [SEVEN.tolist()] * 3


STROKE = [[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]


def strokes_of(*images: object) -> np.ndarray:
    work = Digitization("application/json", b"", json.dumps({"strokes": images}).encode())
    work.go_on(60)
    return work.result.pixels.astype(int)


def test_strokes_give_the_pixels_of_their_picture() -> None:
    (pixels,) = strokes_of([STROKE])
    assert np.abs(pixels - SEVEN).mean() < 1


@pytest.mark.parametrize("unit", [1e-9, 1, 1e9])
@pytest.mark.parametrize("origin", [0, -1])
def test_the_unit_and_the_origin_do_not_matter(unit: float, origin: int) -> None:
    moved = [[(x + origin) * unit, (y + origin) * unit] for x, y in STROKE]
    expected = strokes_of([STROKE])
    assert np.abs(strokes_of([moved]) - expected).mean() < 0.2


@pytest.mark.parametrize(
    ("strokes", "num_on"),
    [
        ([], 0),
        ([[]], 0),
        ([[[5, 5]]], 4),  # a dot
        ([[[5, 5], [5, 5]]], 4),
        ([[[5, 0], [5, 9]]], 1),  # a vertical line
        ([[[0, 5], [9, 5]]], 1),  # a horizontal line
        ([[[0, 0], [0, 1e-320]]], 4),  # a dot, to the last bit
        ([[[0, 0], [5e-324, 0]]], 4),
    ],
)
def test_dots_and_lines_are_drawn(strokes: list[object], num_on: int) -> None:
    (pixels,) = strokes_of(strokes)
    assert (pixels > 0).any() == (num_on > 0)
    assert (pixels >= 12).sum() >= num_on


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ("[]", "#"),
        ("{}", "#"),
        ('{"pictures": []}', "#/pictures"),
        ('{"pictures": 3}', "#/pictures"),
        ('{"pictures": ["AAAA", 3]}', "#/pictures/1"),
        ('{"pictures": ["*"]}', "#/pictures/0"),
        ('{"pictures": ["AAAAA"]}', "#/pictures/0"),
        (r'{"pictures": ["data:,\ud800"]}', "#/pictures/0"),
        (r'{"pictures": ["AAAA", "data:;base64,%\ud800"]}', "#/pictures/1"),
        (r'{"pictures": ["\udcff"]}', "#/pictures/0"),
        ('{"pictures": ["AAAA"], "strokes": [[]]}', "#"),
        ('{"pictures": ["AAAA"], "a/b": 1}', "#/a~1b"),
        (json.dumps({"pictures": ["AAAA"] * 257}), "#/pictures"),
        ('{"strokes": []}', "#/strokes"),
        ('{"strokes": [3]}', "#/strokes/0"),
        ('{"strokes": [[3]]}', "#/strokes/0/0"),
        ('{"strokes": [[[3]]]}', "#/strokes/0/0/0"),
        ('{"strokes": [[[[3]]]]}', "#/strokes/0/0/0"),
        ('{"strokes": [[[[3, true]]]]}', "#/strokes/0/0/0/1"),
        ('{"strokes": [[[[3, "4"]]]]}', "#/strokes/0/0/0/1"),
        ('{"strokes": [[], [[[0, 1], [NaN, 1]]]]}', "#/strokes/1/0/1/0"),
        ('{"strokes": [[[[0, -Infinity]]]]}', "#/strokes/0/0/0/1"),
        ('{"strokes": [[[[1e10, 0]]]]}', "#/strokes/0/0/0/0"),
        ('{"strokes": [[[[-1e300, 0]]]]}', "#/strokes/0/0/0/0"),
        (json.dumps({"strokes": [[[[0, 0]]] * 201]}), "#/strokes/0"),
        (json.dumps({"strokes": [[[[0, 0]] * 10_001]]}), "#/strokes/0/0"),
        (json.dumps({"strokes": [[[[0, 0]] * 10_000]] * 11}), "#/strokes/10"),
    ],
)
def test_a_wrong_document_is_refused_with_its_place(document: str, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_json(document.encode())
    assert refused.value.errors[0].pointer == pointer


@pytest.mark.parametrize("text", ["AP+/", "AP-_", "data:image/png;base64,AP%2B/", "data:,%00%ff%bf", " AP\n+/ "])
def test_base64_and_data_urls_are_read(text: str) -> None:
    assert read_json(json.dumps({"pictures": [text]}).encode()).files == [b"\x00\xff\xbf"]

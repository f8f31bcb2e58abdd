"""Bytes to pixels: every kind of picture that people have, and every kind of damage."""

import io
import re
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from siamese_index.errors import Missing, Unreadable
from siamese_index.samples import framing, images, quality
from tests import mutants


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def scene() -> Image.Image:
    """60 wide, 40 high; red where left, blue where right, so that a turn is seen."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = 250
    pixels[:, 30:, 2] = 250
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM"])
def test_every_common_format_decodes_to_the_same_scene(scene, kind):
    pixels = images.decode(saved(scene, kind), 3)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert pixels[20, 5, 0] > 200 and pixels[20, 5, 2] < 60
    assert pixels[20, 55, 2] > 200 and pixels[20, 55, 0] < 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_turns_the_picture(scene, kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: left becomes top
    pixels = images.decode(saved(scene, kind, exif=exif), 3)
    assert pixels.shape == (60, 40, 3)
    assert pixels[5, 20, 0] > 200
    assert pixels[55, 20, 2] > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_agree_between_png_and_jpeg(scene, orientation):
    corner = scene.copy()
    corner.paste((0, 250, 0), (0, 0, 15, 10))  # makes all eight different
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = images.decode(saved(corner, "PNG", exif=exif), 3).astype(int)
    jpeg = images.decode(saved(corner, "JPEG", exif=exif, quality=95, subsampling=0), 3).astype(int)
    assert lossless.shape == jpeg.shape
    assert np.abs(lossless - jpeg).mean() < 4


def test_transparency_is_laid_over_white(scene):
    half = scene.convert("RGBA")
    half.putalpha(Image.new("L", scene.size, 0))
    assert images.decode(saved(half, "PNG"), 3).min() == 255


def test_transparent_palette_and_grey_alpha_are_laid_over_white(scene):
    palette = Image.new("P", (20, 20), 3)
    palette.putpalette([0, 0, 0] * 256)
    assert images.decode(saved(palette, "PNG", transparency=3), 1).min() == 255
    grey = Image.merge("LA", (Image.new("L", (20, 20), 0), Image.new("L", (20, 20), 0)))
    assert images.decode(saved(grey, "PNG"), 1).min() == 255


def test_sixteen_bits_become_eight():
    ramp = Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8))
    pixels = images.decode(saved(ramp, "PNG"), 1)
    assert pixels.min() == 0 and pixels.max() == 255
    assert pixels[0, 1, 0] == round(65535 / 63 / 257)


def test_cmyk_and_palette_and_one_bit_pictures_decode(scene):
    assert images.decode(saved(scene.convert("CMYK"), "JPEG"), 3)[20, 5, 0] > 200
    assert images.decode(saved(scene.convert("P"), "PNG"), 3)[20, 55, 2] > 200
    assert set(np.unique(images.decode(saved(scene.convert("1"), "PNG"), 1))) <= {0, 255}


def test_the_first_frame_of_an_animation_counts(scene):
    other = Image.new("RGB", scene.size, (0, 250, 0))
    pixels = images.decode(saved(scene, "GIF", save_all=True, append_images=[other]), 3)
    assert pixels[20, 5, 1] < 60


def test_floating_point_pictures_are_refused_with_a_remedy():
    picture = Image.fromarray(np.random.default_rng(0).random((20, 20)).astype(np.float32))
    with pytest.raises(Unreadable, match="8 or 16 bits"):
        images.decode(saved(picture, "TIFF"), 1)


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises a picture of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def test_a_pixel_bomb_is_refused_from_its_header():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unreadable, match="50000 x 50000"):
        images.decode(bomb(50_000, 50_000), 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes; the picture needs 2.5 GB


@pytest.mark.parametrize("size", [(1, 1), (0, 0), (7, 100), (100, 0)])
def test_pictures_too_small_to_show_anything_are_refused(size):
    with pytest.raises(Unreadable):
        images.decode(bomb(*size), 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_pictures_are_refused_at_any_length(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = saved(noise, kind)
    with pytest.raises(Unreadable):
        images.decode(data[: int(len(data) * share)], 3)


def test_what_is_no_picture_is_refused():
    for data in (b"", b"hello", b"\x00" * 1000, b"\xff\xd8\xff", b"GIF89a", b"<svg width='100' height='100'></svg>"):
        with pytest.raises(Unreadable):
            images.decode(data, 3)


def test_any_flipped_byte_gives_pixels_or_a_clear_refusal(scene):
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        good = saved(scene, kind)
        for _ in range(60):
            bad = bytearray(good)
            bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
            try:
                assert images.decode(bytes(bad), 3).dtype == np.uint8
            except Unreadable:
                pass


def test_reading_says_what_is_wrong_with_the_file(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(Unreadable, match="empty"):
        images.read(tmp_path / "empty.png")
    with pytest.raises(Missing, match="no such file"):
        images.read(tmp_path / "nobody.png")
    with pytest.raises(Missing, match="cannot be read"):
        images.read(tmp_path)


def test_large_pictures_are_kept_smaller_and_small_ones_as_they_are(scene):
    small = saved(scene, "PNG")
    assert images.bounded(small) is small
    kept = images.bounded(saved(scene.resize((3000, 2000)), "JPEG"))
    assert images.decode(kept, 3).shape == (724, 1086, 3)
    slender = images.bounded(saved(scene.resize((20_000, 300)), "JPEG"))
    assert images.decode(slender, 3).shape == (109, 7241, 3)  # by area: by its longer side nothing would be left


def test_fitting_averages_areas():
    stripes = np.zeros((8, 8, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(images.fit(stripes, 4, 4) == 100)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(scene, channels):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(scene.resize((1200, 800)), "JPEG", exif=exif, quality=95)
    quick = framing.load(data, 60, 40, channels).astype(int)
    full = images.fit(images.decode(data, channels), 60, 40).astype(int)
    assert quick.shape == (60, 40, channels)
    assert np.abs(quick - full).mean() < 2


def stroke(box, size=100, ground=255, ink=0):
    picture = np.full((size, size, 1), ground, np.uint8)
    picture[box] = ink
    return picture


def inked(picture):
    ground = int(np.median(picture))
    rows, columns = np.nonzero(np.abs(picture[:, :, 0].astype(int) - ground) > 100)
    return (
        picture.shape[0],
        (rows.min() + rows.max()) / 2 / picture.shape[0],
        (columns.min() + columns.max()) / 2 / picture.shape[1],
    )


@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (0, 255), (200, 20)])
def test_small_drawings_are_framed_nearer_and_large_ones_farther(ground, ink):
    small = framing.around_strokes(stroke(np.s_[5:15, 70:90], ground=ground, ink=ink))
    large = framing.around_strokes(stroke(np.s_[0:98, 40:60], ground=ground, ink=ink))
    assert small.shape == (48, 67, 1) and large.shape == (140, 100, 1)  # no nearer than 1.5 times, 1.4 in the other
    assert inked(small)[1:] == pytest.approx((0.5, 0.5), abs=0.02)
    assert inked(large)[1:] == pytest.approx((0.5, 0.5), abs=0.02)
    assert int(np.median(large)) == ground  # what the window shows beyond the picture is ground


def test_a_frame_keeps_the_shape_of_the_picture_and_leaves_an_empty_one_as_it_is():
    wide = np.full((50, 100, 3), 255, np.uint8)
    wide[20:30, 10:30] = (0, 0, 200)
    framed = framing.around_strokes(wide)
    assert framed.shape[1] == pytest.approx(2 * framed.shape[0], abs=1) and framed.shape[2] == 3
    blank = np.full((40, 40, 1), 250, np.uint8)
    assert framing.around_strokes(blank) is blank


def test_a_frame_hardly_moves_when_the_drawing_does():
    one, other = (
        framing.load(images.encode(stroke(box)), 32, 32, 1, "strokes")
        for box in (np.s_[10:40, 20:60], np.s_[55:85, 30:70])
    )
    assert np.abs(one.astype(int) - other).mean() < 1


@pytest.mark.parametrize("white", [1, 100, 255, 1000, 4095, 65535])
def test_white_is_white_in_every_depth_of_pgm(white):
    levels = np.linspace(0, white, 64 * 64).round().reshape(64, 64)
    body = levels.astype(">u2" if white > 255 else np.uint8).tobytes()
    for comment in (b"", b"# made by hand\n"):
        seen = images.decode(b"P5\n" + comment + b"64 64\n%d\n" % white + body, 1)[..., 0]
        assert np.abs(seen.astype(float) - levels / white * 255).max() <= 1


def test_white_is_white_in_avif_of_ten_bits():
    pixels = np.zeros((64, 48, 3), np.uint8)
    pixels[:32] = (250, 200, 100)
    encoded = cv2.imencode(
        ".avif", (pixels.astype(np.uint16) << 2), [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 95]
    )
    seen = images.decode(encoded[1].tobytes(), 3)
    assert np.abs(seen[..., ::-1].astype(int) - pixels).mean() < 6


def test_a_jpeg_with_a_video_behind_it_is_a_picture_and_one_cut_short_is_not():
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    video = (
        b"\0\0\0\x20ftypmp42" + np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes() + b"\xff\xda\xff"
    )
    assert np.array_equal(images.decode(data + video, 3), images.decode(data, 3))
    for share in (0.3, 0.6, 0.99):
        with pytest.raises(Unreadable, match="cut short"):
            images.decode(data[: int(len(data) * share)], 3)


def test_bombs_inside_a_small_file_are_refused_at_once():
    jpeg = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    first = jpeg.index(b"\xff\xda")
    scan = jpeg[first : re.compile(rb"\xff[\xc4\xda\xd9]").search(jpeg, first + 2).start()]
    with pytest.raises(Unreadable, match="scans"):
        images.decode(jpeg[:first] + scan * 200 + jpeg[first:], 1)
    png = images.encode(np.zeros((32, 32, 1), np.uint8))
    bomb = png[:33] + (0xFFFFFFF0).to_bytes(4, "big") + b"tEXt" + png[33:]
    with pytest.raises(Unreadable, match="4,294,967,280 bytes"):
        images.decode(bomb, 1)


def test_transparency_of_a_large_picture_takes_little_memory():
    import tracemalloc

    large = np.full((2000, 3000, 4), 200, np.uint8)
    large[:, :, 3] = np.arange(3000) % 256
    tracemalloc.start()
    seen = images._over_white(large)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 120_000_000  # 18 MB of result, and some rows
    alpha = large[0, :, 3:] / 255
    assert np.abs(seen[0] - (large[0, :, :3] * alpha + 255 * (1 - alpha))).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_that_its_container_turns_or_mirrors_is_upright(orientation):
    pixels = np.zeros((96, 64, 3), np.uint8)
    pixels[:40, :20] = (220, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=95, exif=exif)  # Pillow makes it properties irot and imir
    with Image.open(file) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    seen = images.decode(file.getvalue(), 3).astype(int)
    assert seen.shape == upright.shape
    assert np.abs(seen - upright).mean() < 3


def test_every_colour_and_transparency_over_white_is_rounded_right():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    seen = images._over_white(np.stack([colour, colour[:, ::-1], colour, alpha], -1).astype(np.uint8))
    wanted = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    assert np.array_equal(seen[..., 0], wanted)
    assert np.array_equal(seen[..., 1], (colour[:, ::-1] * alpha + 255 * (255 - alpha) + 127) // 255)


def test_sixteen_bits_become_eight_by_rounding():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    seen = images.decode(cv2.imencode(".png", every)[1].tobytes(), 1)[..., 0]
    assert np.array_equal(seen, np.round(every / 257))


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_or_twelve_bits_in_sixteen_without_a_word_about_it_are_refused(bits, scene):
    grey = np.asarray(scene.convert("L"), np.uint16) << (bits - 8)
    for suffix in (".png", ".tif"):
        with pytest.raises(Unreadable, match="of the 65,535 levels"):
            images.decode(cv2.imencode(suffix, grey)[1].tobytes(), 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [((5000, 5000, 3), np.uint16, ".png"), ((5000, 5000), np.uint16, ".tif"), ((5000, 5000), np.uint8, ".jp2")],
)
def test_a_picture_that_takes_much_memory_to_decode_may_have_fewer_pixels(shape, dtype, suffix):
    data = cv2.imencode(suffix, np.zeros(shape, dtype))[1].tobytes()
    with pytest.raises(Unreadable, match="24,000,000 pixels of this format"):
        images.decode(data, 3)
    assert images.decode(cv2.imencode(".png", np.zeros((5000, 5000), np.uint8))[1].tobytes(), 1).shape[0] == 5000


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [((4890, 4900, 3), np.uint8, ".avif"), ((4890, 4900, 4), np.uint16, ".png"), ((8000, 8000, 4), np.uint8, ".png")],
)
def test_the_largest_that_are_decoded_take_half_a_gigabyte_at_most(shape, dtype, suffix, tmp_path):
    path = tmp_path / f"large{suffix}"
    path.write_bytes(cv2.imencode(suffix, np.full(shape, 200 if dtype == np.uint8 else 40000, dtype))[1].tobytes())
    child = (
        "import sys, resource; from siamese_index.samples import images\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = open(sys.argv[1], 'rb').read(); before = most(); images.decode(data, 3); print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", child, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 512_000_000 + 10_000_000  # what the allocator keeps


def test_noise_on_one_grey_is_blank_and_a_stroke_is_not():
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(128, 3, (64, 64, 1))
        assert quality.is_blank(noise.round().astype(np.uint8))
        small = np.random.default_rng(seed).normal(12, 4, (32, 32, 1))
        assert quality.is_blank(small.clip(0, 255).round().astype(np.uint8))
        hot = np.full((64, 64, 1), 3, np.uint8)
        hot[tuple(np.random.default_rng(seed).integers(0, 64, 2))] = 255
        assert quality.is_blank(hot)
    stroke = np.full((100, 100, 1), 255, np.uint8)
    stroke[20:30, 50] = 0
    assert not quality.is_blank(stroke)


def test_damaged_files_of_every_format_are_decoded_or_refused_within_their_bounds():
    found = mutants.run(360, seed=1)
    assert found["wrong"] == []
    assert found["picture"] + found["unreadable"] == 360
    assert found["picture"] > 60 and found["unreadable"] > 60


def test_a_tiff_whose_transparency_would_be_dropped_is_refused():
    with pytest.raises(Unreadable, match="transparency"):
        images.decode(saved(Image.new("LA", (40, 40), (0, 0)), "TIFF"), 1)

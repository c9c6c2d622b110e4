"""Reading class folders of images: splits, labels, the cache, damaged and foreign images."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import IMAGE_SUFFIXES, ImageDataset, list_images, load_dataset
from musicspectrogan.errors import UserError
from musicspectrogan.information import describe

GENRES = ["blues", "jazz", "metal", "rock"]


@pytest.fixture
def root(images: Path, tmp_path: Path) -> Path:
    """A copy of the dataset of 4 genres x 4 tracks x 2 images, to be changed at will."""
    return Path(shutil.copytree(images, tmp_path / "dataset", ignore=shutil.ignore_patterns(".*")))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Class folders of pictures that preprocess did not make."""
    root = tmp_path / "pictures"
    ramp = np.linspace(0, 255, 100 * 80 * 3).reshape(100, 80, 3).astype(np.uint8)
    for genre, name, picture in (
        ("cats", "colour.jpg", Image.fromarray(ramp)),
        ("cats", "red.png", Image.new("RGB", (64, 64), (255, 0, 0))),
        ("dogs", "grey large.png", Image.new("L", (300, 300), 77)),
        ("dogs", "palette.PNG", Image.new("RGB", (64, 64), (0, 0, 255)).convert("P")),
        ("dogs", "transparent.png", Image.new("RGBA", (64, 64), (255, 255, 255, 255))),
    ):
        (root / genre).mkdir(parents=True, exist_ok=True)
        picture.save(root / genre / name)
    (root / "dogs" / "notes.txt").write_text("no picture")
    (root / "dogs" / ".hidden.png").write_bytes(b"no picture")
    return root


@pytest.fixture(autouse=True)
def messages(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="musicspectrogan")
    return caplog


def tracks_in_split(root: Path, split: str) -> list[tuple[str, str]]:
    tracks = json.loads((root / "dataset.json").read_text(encoding="utf-8"))["tracks"]
    return sorted((t["genre"], t["id"]) for t in tracks if split in (t["split"], "all"))


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def caches(root: Path) -> list[str]:
    return sorted(path.suffix for path in root.glob(".cache-*"))


def as_bytes(dataset: ImageDataset) -> list[bytes]:
    return [image.tobytes() for image in dataset.pixels[dataset.rows]]


@pytest.mark.parametrize(
    ("split", "count"), [("training", 8), ("validation", 4), ("test", 4), ("all", 16)]
)
def test_a_split_holds_the_images_of_its_tracks(root: Path, split: str, count: int) -> None:
    tracks = tracks_in_split(root, split)
    assert len(tracks) == count
    dataset = load_dataset(root, split=split)
    assert len(dataset) == len(dataset.rows) == len(dataset.labels) == 2 * count
    expected = [
        (genre, pixels_of(root / genre / f"{track}_{segment:03d}.png").tobytes())
        for genre, track in tracks
        for segment in range(2)
    ]
    assert dataset.genres == GENRES
    loaded = zip(
        [dataset.genres[label] for label in dataset.labels], as_bytes(dataset), strict=True
    )
    assert sorted(loaded) == sorted(expected)


def test_splits_share_no_image_and_together_are_all(root: Path) -> None:
    rows = [
        set(load_dataset(root, split=split).rows) for split in ("training", "validation", "test")
    ]
    assert rows[0].isdisjoint(rows[1])
    assert rows[1].isdisjoint(rows[2])
    assert rows[0].isdisjoint(rows[2])
    assert set.union(*rows) == set(load_dataset(root, split="all").rows) == set(range(32))


def test_training_is_the_default_split(root: Path) -> None:
    np.testing.assert_array_equal(
        load_dataset(root).rows, load_dataset(root, split="training").rows
    )


def test_the_dataset_knows_its_name_settings_and_size(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.name, dataset.image_size) == ("gtzan", 64)
    assert dataset.spectrogram == SpectrogramConfig()
    assert dataset.labels.dtype == dataset.rows.dtype == np.int64


def test_a_dataset_of_class_folders_has_the_name_of_its_folder(root: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text().replace('"source": "gtzan"', '"source": "folder"'))
    assert load_dataset(root).name == "dataset"


def test_pixels_stay_on_disk(root: Path) -> None:
    for _ in range(2):
        pixels = load_dataset(root).pixels
        assert isinstance(pixels, np.memmap)
        assert Path(pixels.filename).parent == root
        assert (pixels.dtype, pixels.shape, pixels.flags.writeable) == (
            np.uint8,
            (32, 64, 64),
            False,
        )


def test_the_cache_serves_the_second_time(root: Path) -> None:
    first = load_dataset(root, split="all")
    assert caches(root) == [".json", ".npy"]
    for path in root.glob("*/*.png"):
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert as_bytes(load_dataset(root, split="all")) == as_bytes(first)


@pytest.mark.parametrize("warnings", [None, "error::UserWarning"])
def test_the_environment_is_as_before(
    root: Path, monkeypatch: pytest.MonkeyPatch, warnings: str | None
) -> None:
    """Whatever this process starts afterwards, the commands that these tests start for instance."""
    if warnings is None:
        monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    else:
        monkeypatch.setenv("PYTHONWARNINGS", warnings)
    before = dict(os.environ)
    load_dataset(root)
    assert caches(root)
    assert dict(os.environ) == before


def test_a_changed_file_renews_the_cache(root: Path) -> None:
    before = as_bytes(load_dataset(root, split="all"))
    Image.new("L", (64, 64), 99).save(root / "blues" / "blues.00000_000.png")
    after = as_bytes(load_dataset(root, split="all"))
    assert after[0] == bytes([99]) * 64 * 64
    assert after[1:] == before[1:]
    assert caches(root) == [".json", ".npy"]


def test_an_added_and_a_removed_file_renew_the_cache(foreign: Path) -> None:
    assert len(load_dataset(foreign)) == 5
    Image.new("L", (64, 64), 5).save(foreign / "cats" / "new.png")
    assert len(load_dataset(foreign)) == 6
    (foreign / "cats" / "colour.jpg").unlink()
    assert len(load_dataset(foreign)) == 5
    assert caches(foreign) == [".json", ".npy"]


def test_the_cache_is_no_class_folder_and_no_image(root: Path) -> None:
    load_dataset(root)
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == GENRES
    assert len(load_dataset(root, split="all")) == 32


def test_damaged_images_are_left_out_and_named_every_time(
    root: Path, messages: pytest.LogCaptureFixture
) -> None:
    whole = as_bytes(load_dataset(root, split="all"))
    cut_off = root / "jazz" / "jazz.00000_001.png"
    cut_off.write_bytes(cut_off.read_bytes()[:700])
    (root / "rock" / "rock.00003_000.png").write_text("this is a text")
    for _ in range(2):
        messages.clear()
        dataset = load_dataset(root, split="all")
        assert len(dataset) == 30
        assert as_bytes(dataset) == whole[:9] + whole[10:30] + whole[31:]
        named = "jazz/jazz.00000_001.png, rock/rock.00003_000.png"
        assert f"Left out 2 images that cannot be read: {named}" in messages.text


def test_images_of_no_known_track_are_left_out_and_counted(
    root: Path, messages: pytest.LogCaptureFixture
) -> None:
    shutil.copy(root / "rock" / "rock.00000_000.png", root / "rock" / "stranger_000.png")
    assert len(load_dataset(root, split="all")) == 32
    assert "Left out 1 image of no track in dataset.json" in messages.text


def test_foreign_images_become_grey_and_of_one_size(
    foreign: Path, messages: pytest.LogCaptureFixture
) -> None:
    dataset = load_dataset(foreign)
    assert dataset.name == "pictures"
    assert dataset.genres == ["cats", "dogs"]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.pixels.shape == (5, 64, 64)
    assert dataset.spectrogram == SpectrogramConfig()
    _, red, grey, blue, white = dataset.pixels
    # Rec. 601 luma of pure red and blue.
    assert {int(image.min()) for image in (red, grey, blue, white)} == {76, 77, 29, 255}
    assert [int(image.max()) for image in (red, grey, blue, white)] == [76, 77, 29, 255]
    assert dataset.pixels[0].std() > 50
    assert "has no dataset.json" in messages.text
    assert "Converted 5 of 5 images to grayscale or resized to 64x64" in messages.text


@pytest.mark.parametrize("split", ["training", "validation", "all"])
def test_foreign_images_are_used_whole(foreign: Path, split: str) -> None:
    assert len(load_dataset(foreign, split=split)) == 5


def test_foreign_images_keep_a_size_that_can_be_trained(foreign: Path) -> None:
    for path in foreign.glob("*/*"):
        path.unlink()
    Image.new("L", (128, 128), 9).save(foreign / "cats" / "a.png")
    dataset = load_dataset(foreign)
    assert dataset.pixels.shape == (1, 128, 128)
    assert dataset.spectrogram == SpectrogramConfig.for_image_size(128)


def test_foreign_images_are_resized_on_request(foreign: Path) -> None:
    dataset = load_dataset(foreign, image_size=256)
    assert dataset.pixels.shape == (5, 256, 256)
    assert dataset.spectrogram.n_mels == 256
    with pytest.raises(UserError, match="image_size: 100 is not one of 64, 128, 256"):
        load_dataset(foreign, image_size=100)


def test_two_sizes_have_a_cache_each(foreign: Path) -> None:
    load_dataset(foreign, image_size=64)
    load_dataset(foreign, image_size=128)
    assert caches(foreign) == [".json", ".json", ".npy", ".npy"]
    assert load_dataset(foreign, image_size=64).pixels.shape == (5, 64, 64)


def test_unfinished_preprocessing_is_refused(root: Path) -> None:
    contents = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**contents, "genres": [], "tracks": []}))
    with pytest.raises(UserError, match="did not finish; repeat the preprocess command"):
        load_dataset(root)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--dataset .*nowhere: there is no such folder; .*preprocess\.py"
    ):
        load_dataset(tmp_path / "nowhere")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "music" / "rock").mkdir(parents=True)
    (tmp_path / "music" / "rock" / "song.wav").touch()
    (tmp_path / "music" / "front.png").touch()
    for folder in (tmp_path / "music", tmp_path / "music" / "rock"):
        with pytest.raises(UserError, match="no class folders with images in it"):
            load_dataset(folder)


def test_a_folder_of_damaged_images_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rock").mkdir()
    (tmp_path / "rock" / "a.png").write_text("this is a text")
    with pytest.raises(UserError, match="no readable image in the split training"):
        load_dataset(tmp_path)


def test_an_unknown_split_is_refused_with_the_nearest_name(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"--split: 'train' is not one of .*did you mean 'training'"
    ):
        load_dataset(root, split="train")


def test_an_empty_split_is_refused(root: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text().replace('"validation"', '"training"'))
    with pytest.raises(UserError, match="no readable image in the split validation"):
        load_dataset(root, split="validation")


def test_another_image_size_than_that_of_the_dataset_is_refused(root: Path) -> None:
    assert load_dataset(root, image_size=64).image_size == 64
    with pytest.raises(
        UserError, match=r"--image-size 128: the images of .* are 64 pixels high and wide"
    ):
        load_dataset(root, image_size=128)


def test_a_damaged_dataset_json_is_refused(root: Path) -> None:
    (root / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        load_dataset(root)


def test_a_read_only_dataset_works_without_a_cache(
    root: Path, messages: pytest.LogCaptureFixture
) -> None:
    expected = as_bytes(load_dataset(root, split="all"))
    for path in root.glob(".cache-*"):
        path.unlink()
    root.chmod(0o555)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("nothing is read-only for this user")
        dataset = load_dataset(root, split="all")
    finally:
        root.chmod(0o755)
    assert as_bytes(dataset) == expected
    assert caches(root) == []
    assert "no cache in" in messages.text


@pytest.mark.parametrize("damage", ["cut", "other shape", "objects", "notes"])
def test_a_damaged_cache_is_made_anew(
    root: Path, messages: pytest.LogCaptureFixture, damage: str
) -> None:
    pixels = load_dataset(root).pixels.copy()
    (cache,) = root.glob(".cache-*.npy")
    if damage == "cut":
        cache.write_bytes(cache.read_bytes()[:1000])
    elif damage == "other shape":
        np.save(cache, np.zeros((1, 64, 64), np.uint8))
    elif damage == "objects":
        np.save(cache, np.array([{}] * len(pixels)), allow_pickle=True)
    else:
        cache.with_suffix(".json").write_text('{"damaged": [[-1, 5]], "resized": "x"}')
    assert (load_dataset(root).pixels == pixels).all()
    assert "is damaged and is recreated" in messages.text
    messages.clear()
    assert (load_dataset(root).pixels == pixels).all()
    assert "recreated" not in messages.text


def test_a_number_beyond_any_segment_does_not_stop_the_others(root: Path) -> None:
    count = len(load_dataset(root))
    image = next((root / "rock").glob("*.png"))
    shutil.copy(image, image.with_name("x_" + "9" * 100 + ".png"))
    assert len(load_dataset(root)) == count


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Image.fromarray(np.full((64, 64), 0.5, np.float32)), "floating-point pixels (mode F)"),
        (Image.fromarray(np.full((64, 64), 500, np.int32)), "32-bit integer pixels (mode I)"),
        (Image.new("LAB", (64, 64)), "its colors are CIELAB (mode LAB)"),
    ],
    ids=["float", "int32", "lab"],
)
def test_pixels_that_could_mean_anything_are_left_out_by_name(
    picture: Image.Image, reason: str, foreign: Path, messages: pytest.LogCaptureFixture
) -> None:
    picture.save(foreign / "cats" / "odd.tif")
    assert len(load_dataset(foreign)) == 5
    assert "Left out 1 image that cannot be read: cats/odd.tif; repair them" in messages.text
    assert reason in messages.text
    assert "delete" not in messages.text


def test_training_finds_what_image_folder_finds(
    foreign: Path, messages: pytest.LogCaptureFixture
) -> None:
    """Nested folders, links, all suffixes in any case; and in the same order."""
    assert set(IMAGE_SUFFIXES) == set(IMG_EXTENSIONS)
    (foreign / "dogs" / ".hidden.png").unlink()
    for number, name in enumerate(
        (
            "cats/b/c/deep.PGM",
            "cats/b/x.Ppm",
            "cats/b-a/y.BMP",
            "cats/a.TIFF",
            "birds/1/...and justice.webp",
        )
    ):
        path = foreign / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = {".pgm": "PPM", ".ppm": "PPM"}.get(path.suffix.lower())
        Image.new("RGB" if path.suffix == ".Ppm" else "L", (64, 64), number).save(path, format=form)
    elsewhere = foreign.parent / "elsewhere"
    shutil.copytree(foreign / "dogs", elsewhere)
    (foreign / "cats" / "linked").symlink_to(elsewhere)
    (foreign / "cats" / "linked file.jpg").symlink_to(foreign / "cats" / "colour.jpg")
    expected = ImageFolder(str(foreign))
    names = list_images(foreign).names
    assert names == [Path(path).relative_to(foreign).as_posix() for path, _ in expected.samples]
    dataset = load_dataset(foreign)
    assert dataset.genres == expected.classes == ["birds", "cats", "dogs"]
    assert dataset.labels.tolist() == expected.targets
    assert (
        f"{foreign}: ignoring 2 files (not an image format): cats/linked/notes.txt" in messages.text
    )


def test_a_change_deep_inside_renews_the_cache(foreign: Path) -> None:
    (foreign / "cats" / "deep").mkdir()
    Image.new("L", (64, 64), 7).save(foreign / "cats" / "deep" / "x.png")
    before = as_bytes(load_dataset(foreign))
    Image.new("L", (64, 64), 8).save(foreign / "cats" / "deep" / "x.png")
    assert set(as_bytes(load_dataset(foreign))) ^ set(before) == {
        bytes([level]) * 4096 for level in (7, 8)
    }


def test_links_that_lead_nowhere_or_round_in_circles(foreign: Path, messages) -> None:
    (foreign / "cats" / "circle").symlink_to(foreign / "cats")
    (foreign / "cats" / "gone.png").symlink_to(foreign / "nowhere.png")
    for _ in range(2):
        messages.clear()
        assert len(load_dataset(foreign)) == 5
        assert "Left out 1 image that cannot be read: cats/gone.png" in messages.text
    assert caches(foreign) == [".json", ".npy"]
    assert "no cache" not in messages.text


def test_pictures_beside_the_class_folders_are_told(foreign: Path, messages) -> None:
    Image.new("L", (64, 64)).save(foreign / "cover.png")
    assert len(load_dataset(foreign)) == 5
    assert "ignoring 1 image (not in a class folder): cover.png" in messages.text


def test_our_images_in_folders_of_their_class_stay_their_tracks(root: Path) -> None:
    before = load_dataset(root)
    for path in list((root / "jazz").glob("*.png")):
        (root / "jazz" / "sorted").mkdir(exist_ok=True)
        path.rename(root / "jazz" / "sorted" / path.name)
    after = load_dataset(root)
    assert as_bytes(after) == as_bytes(before)
    assert after.tracks.tolist() == before.tracks.tolist()
    assert after.segments.tolist() == before.segments.tolist()


@pytest.mark.parametrize("contents", ['{"labels": [["cats/red.png", 0]]}', "[]", "not JSON", ""])
def test_the_dataset_json_of_another_tool_is_no_hindrance(
    contents: str, foreign: Path, messages: pytest.LogCaptureFixture
) -> None:
    (foreign / "dataset.json").write_text(contents)
    dataset = load_dataset(foreign)
    assert (len(dataset), dataset.genres, dataset.name) == (5, ["cats", "dogs"], "pictures")
    assert "has a dataset.json of another tool: training on all of its images" in messages.text
    assert (foreign / "dataset.json").read_text() == contents


def splits_of_pictures(root: Path, names: dict[str, int]) -> Path:
    """`<split>/<class>` folders of so many pictures each, every one of another grey."""
    level = 0
    for name, count in names.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            level += 1
            Image.new("L", (64, 64), level).save(root / name / f"{number}.png")
    return root


def test_split_folders_above_the_classes_are_splits(tmp_path: Path, messages) -> None:
    names = {"Train/jazz": 3, "Train/rock": 4, "val/rock": 2, "test/jazz": 1, "test/rock": 1}
    root = splits_of_pictures(tmp_path / "pictures", names)
    training = load_dataset(root)
    assert training.genres == ["jazz", "rock"]
    assert training.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert [image[0] for image in as_bytes(training)] == [1, 2, 3, 4, 5, 6, 7]
    assert ": using Train/ for training, val/ for validation, test/ for test;" in messages.text
    assert [image[0] for image in as_bytes(load_dataset(root, split="validation"))] == [8, 9]
    assert [image[0] for image in as_bytes(load_dataset(root, split="test"))] == [10, 11]
    assert load_dataset(root, split="test").genres == ["jazz", "rock"]
    every = load_dataset(root, split="all")
    assert every.labels.tolist() == sorted(every.labels.tolist())
    assert len(every) == 11


@pytest.mark.parametrize(
    "names",
    [
        {"Train/album 1": 1, "Test/album 2": 1},  # two bands
        {"train": 2, "test": 2},
        {"train/rock": 2, "test/rock": 2, "bus/red": 1},
        {"train/rock": 2},
        {"val/rock": 2, "test/rock": 2},
    ],
)
def test_classes_with_such_names_stay_classes(
    tmp_path: Path, names: dict[str, int], messages
) -> None:
    root = splits_of_pictures(tmp_path / "pictures", names)
    dataset = load_dataset(root)
    assert dataset.genres == sorted({name.partition("/")[0] for name in names})
    assert len(dataset) == sum(names.values())
    told = "if it is a split, use --dataset" in messages.text
    assert told == any(name.lower().startswith("train") for name in names)


def test_a_folder_that_may_not_be_read_is_told_and_passed_over(
    foreign: Path, messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mode keeps out who runs these tests as root."""
    (foreign / "locked").mkdir()
    scan = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(load_dataset(foreign)) == 5
    assert (
        f"{foreign / 'locked'} cannot be read (Permission denied) and is skipped" in messages.text
    )


def test_folders_of_systems_are_passed_over_and_told(foreign: Path, messages) -> None:
    for name in ("#recycle", "cats/.ipynb_checkpoints", "cats/...and justice"):
        (foreign / name).mkdir()
        Image.new("L", (64, 64), 5).save(foreign / name / "x.png")
    assert len(load_dataset(foreign)) == 6
    assert "ignoring 4 files (not an image format): cats/.ipynb_checkpoints/, " in messages.text
    assert "#recycle/" in messages.text


def test_caches_alone_are_cleared(foreign: Path) -> None:
    for name in ("my.cache-64-notes.txt", ".cache-64-notes", "..cache-64-x.npy"):
        (foreign / name).write_text("mine")
    (foreign / f"..cache-64-{'0' * 16}.npy.tmp").touch()
    (foreign / f".cache-64-{'0' * 16}.npy").touch()
    load_dataset(foreign)
    assert caches(foreign) == ["", ".json", ".npy"]
    assert not list(foreign.glob("*0000*"))
    assert (foreign / "my.cache-64-notes.txt").read_text() == "mine"
    assert (foreign / "..cache-64-x.npy").read_text() == "mine"


def test_it_says_how_a_folder_is_used(tmp_path: Path, messages) -> None:
    root = splits_of_pictures(
        tmp_path / "pictures", {"train/jazz": 2, "train/rock": 2, "test/rock": 1}
    )
    (root / "dataset.json").write_text('{"labels": null}')
    load_dataset(root)
    used = "using train/ for training, test/ for test;"
    assert f"has a dataset.json of another tool: {used}" in messages.text
    assert describe(root).splitlines() == [
        f"dataset  {root} (class folders of pictures, with another tool's dataset.json)",
        "images   5",
        "genres   jazz 2, rock 3",
        "splits   training 4 images, test 1 image",
        "ignored  0",
    ]

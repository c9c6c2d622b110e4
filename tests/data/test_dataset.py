"""Reading class folders of images: splits, labels, the cache, damaged and foreign images."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.errors import UserError

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


@pytest.mark.parametrize(("split", "count"), [("training", 8), ("validation", 4), ("test", 4), ("all", 16)])
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
    loaded = zip([dataset.genres[label] for label in dataset.labels], as_bytes(dataset), strict=True)
    assert sorted(loaded) == sorted(expected)


def test_splits_share_no_image_and_together_are_all(root: Path) -> None:
    rows = [set(load_dataset(root, split=split).rows) for split in ("training", "validation", "test")]
    assert rows[0].isdisjoint(rows[1])
    assert rows[1].isdisjoint(rows[2])
    assert rows[0].isdisjoint(rows[2])
    assert set.union(*rows) == set(load_dataset(root, split="all").rows) == set(range(32))


def test_training_is_the_default_split(root: Path) -> None:
    np.testing.assert_array_equal(load_dataset(root).rows, load_dataset(root, split="training").rows)


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
        assert (pixels.dtype, pixels.shape, pixels.flags.writeable) == (np.uint8, (32, 64, 64), False)


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
        assert (
            "2 images cannot be read and are left out: jazz/jazz.00000_001.png, rock/rock.00003_000.png"
        ) in messages.text


def test_images_of_no_known_track_are_left_out_and_counted(
    root: Path, messages: pytest.LogCaptureFixture
) -> None:
    shutil.copy(root / "rock" / "rock.00000_000.png", root / "rock" / "stranger_000.png")
    assert len(load_dataset(root, split="all")) == 32
    assert "1 images belong to no track of dataset.json and are left out" in messages.text


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
    assert "5 of 5 images were made grey or resized to 64x64" in messages.text


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
    with pytest.raises(UserError, match="did not finish; give the same preprocess command again"):
        load_dataset(root)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--dataset .*nowhere: there is no such folder; .*preprocess\.py"):
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
    with pytest.raises(UserError, match=r"--split: 'train' is not one of .*did you mean 'training'"):
        load_dataset(root, split="train")


def test_an_empty_split_is_refused(root: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text().replace('"validation"', '"training"'))
    with pytest.raises(UserError, match="no readable image in the split validation"):
        load_dataset(root, split="validation")


def test_another_image_size_than_that_of_the_dataset_is_refused(root: Path) -> None:
    assert load_dataset(root, image_size=64).image_size == 64
    with pytest.raises(UserError, match=r"--image-size 128: the images of .* have 64 pixels a side"):
        load_dataset(root, image_size=128)


def test_a_damaged_dataset_json_is_refused(root: Path) -> None:
    (root / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        load_dataset(root)


def test_a_read_only_dataset_works_without_a_cache(root: Path, messages: pytest.LogCaptureFixture) -> None:
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
def test_a_damaged_cache_is_made_anew(root: Path, messages: pytest.LogCaptureFixture, damage: str) -> None:
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
    assert "is damaged and made anew" in messages.text
    messages.clear()
    assert (load_dataset(root).pixels == pixels).all()
    assert "made anew" not in messages.text


def test_a_number_beyond_any_segment_does_not_stop_the_others(root: Path) -> None:
    count = len(load_dataset(root))
    image = next((root / "rock").glob("*.png"))
    shutil.copy(image, image.with_name("x_" + "9" * 100 + ".png"))
    assert len(load_dataset(root)) == count

"""The images to evaluate: samples of checkpoints, folders of pictures, and windows of clips."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import CPU, GENRES, put_images, put_pieces, tracks_in
from PIL import Image

from musicspectrogan.audio.images import write_image
from musicspectrogan.audio.spectrogram import SpectrogramConfig
from musicspectrogan.data.dataset import ImageDataset, load_dataset
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.reference import load_splits, load_tracks
from musicspectrogan.evaluation.samples import (
    ClipWindows,
    ImageSet,
    choose_clips,
    read_folder,
    sample_checkpoint,
    split_windows,
    windows_in,
)
from musicspectrogan.evaluation.settings import MIN_SAMPLES
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import LatentSpec, Sampler
from musicspectrogan.training.run_checkpoints import load_checkpoint

pytest_plugins = ["evaluation_fixtures"]


def test_samples_are_of_each_genre_as_often_as_training_images(runs, known, tmp_path):
    checkpoint = load_checkpoint(runs["cgan"])
    source = runs["cgan"] / "checkpoints" / "latest.pt"
    dataset = load_dataset(known)
    keep = np.nonzero((dataset.labels > 0) | (np.arange(90) < 10))[0]
    lopsided = replace(
        dataset, rows=dataset.rows[keep], labels=dataset.labels[keep], tracks=dataset.tracks[keep]
    )
    samples = sample_checkpoint(checkpoint, source, lopsided, count=140, seed=0, device=CPU)
    assert samples.conditional
    assert np.bincount(samples.images.labels).tolist() == [20, 60, 60]
    assert samples.images.pixels.shape == (140, 64, 64)
    again, other = (
        sample_checkpoint(checkpoint, source, lopsided, count=140, seed=seed, device=CPU)
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(again.images.pixels, samples.images.pixels)
    assert (other.images.pixels != samples.images.pixels).mean() > 0.3


def test_a_model_of_other_images_is_remarked_on(runs, known):
    checkpoint, dataset = load_checkpoint(runs["cgan"]), load_dataset(known)
    source = runs["cgan"] / "checkpoints" / "latest.pt"
    for fingerprint, said in ((dataset.fingerprint, False), ("other", True)):
        samples = sample_checkpoint(
            replace(checkpoint, dataset_fingerprint=fingerprint),
            source,
            dataset,
            count=3,
            seed=0,
            device=CPU,
        )
        remarks = ["trained on other images" in remark for remark in samples.remarks]
        assert remarks == [True] * said


def test_a_folder_gives_all_images_or_a_choice_by_the_seed(fresh, known):
    dataset = load_dataset(known)
    whole = read_folder(fresh, dataset, 500, seed=0).images
    assert np.bincount(whole.labels).tolist() == [40, 40, 40]
    assert whole.n_clips == len(whole) == 120
    first, again, other = (read_folder(fresh, dataset, 100, seed).images for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any()
    by_bytes = {
        image.tobytes(): label for image, label in zip(whole.pixels, whole.labels, strict=True)
    }
    assert len(first) == 100
    assert [by_bytes[image.tobytes()] for image in first.pixels] == first.labels.tolist()


@pytest.mark.parametrize(
    ("genres", "conditional"),
    [(["metal"], True), (["metal", "polka"], False), (["metal", ""], False)],
)
def test_images_may_say_their_genre_themselves(genres, conditional, known, tmp_path):
    """As those of `generate` do; where some do not, or of no genre of the dataset, none counts."""
    dataset = load_dataset(known)
    for number in range(MIN_SAMPLES):
        genre = genres[number % len(genres)]
        write_image(
            tmp_path / f"{number}.png",
            np.zeros((64, 64), np.uint8),
            dataset.spectrogram,
            genre=genre,
        )
    (tmp_path / ".half_written.png").write_bytes(b"")
    samples = read_folder(tmp_path, dataset, 200, seed=0)
    assert samples.conditional == conditional
    assert len(samples.images) == MIN_SAMPLES
    assert set(samples.images.labels) == {GENRES.index("metal") if conditional else 0}


@pytest.fixture
def of_three_classes(tmp_path) -> ImageDataset:
    """Of the classes C, Jazz and c; nothing but their names matters."""
    for genre in ("C", "Jazz", "c"):
        put_images(tmp_path / "dataset" / genre, np.zeros((1, 64, 64), np.uint8))
    return load_dataset(tmp_path / "dataset")


def test_whatever_training_takes_is_judged(of_three_classes, tmp_path, caplog):
    """Any suffix in any case, 16 bits, nested folders, and class folders in capitals."""
    folder = tmp_path / "samples"
    names = [
        f"{genre}/{k}{suffix}"
        for genre in ("JAZZ", "C")
        for k, suffix in enumerate((".PNG", ".jpg", ".tif"))
    ]
    names += [f"JAZZ/deep/{number}.jpeg" for number in range(MIN_SAMPLES)]
    for name in [*names, "polka/x.png", "JAZZ/notes.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.full((64, 64), 127 * 257, np.uint16)
        picture = Image.fromarray(
            grey if name.lower().endswith(("png", "tif")) else (grey // 257).astype(np.uint8)
        )
        if name.endswith("txt"):
            (folder / name).write_text("no picture")
        else:
            picture.save(folder / name)
    samples = read_folder(folder, of_three_classes, 500, seed=0)
    assert samples.conditional
    assert of_three_classes.genres == ["C", "Jazz", "c"]
    assert np.bincount(samples.images.labels).tolist() == [3, 3 + MIN_SAMPLES]
    assert (samples.images.pixels == 127).all()
    assert samples.remarks == ("There are no pictures of c, which makes every distance larger.",)
    warning = "ignoring 1 picture in folders that are not classes of the dataset (polka)"
    assert warning in caplog.text


@pytest.mark.parametrize(
    ("name", "genre"), [("C", "C"), ("c", "c"), ("jazz", "Jazz"), ("Jazz", "Jazz")]
)
def test_a_class_folder_is_matched_exactly_first(name, genre, of_three_classes, tmp_path):
    put_images(tmp_path / "samples" / name, np.zeros((MIN_SAMPLES, 64, 64), np.uint8))
    labels = read_folder(tmp_path / "samples", of_three_classes, 500, seed=0).images.labels
    assert {of_three_classes.genres[label] for label in labels} == {genre}


def test_two_folders_for_one_class_are_ambiguous(of_three_classes, tmp_path, caplog):
    for name in ("JAZZ", "jazz"):
        put_images(tmp_path / "samples" / name, np.zeros((MIN_SAMPLES, 64, 64), np.uint8))
    with pytest.raises(UserError, match="0 pictures in it"):
        read_folder(tmp_path / "samples", of_three_classes, 500, seed=0)
    assert "not classes of the dataset (JAZZ, jazz)" in caplog.text


def test_split_folders_are_enough_to_judge_by(tmp_path):
    for split, count in (("train", 40), ("test", 24)):
        for number, genre in enumerate(("jazz", "rock")):
            pixels = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones(
                (1, 64, 64), np.uint8
            )
            put_images(tmp_path / split / genre, pixels + np.uint8(100 * number))
    splits = load_splits(tmp_path)
    assert (splits.split, len(splits.training), len(splits.held_out), splits.remarks) == (
        "test",
        80,
        48,
        (),
    )
    with pytest.raises(UserError, match="no readable image in the split validation"):
        load_splits(tmp_path, "validation")
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    assert len(load_splits(tmp_path).held_out) == 48
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(
        UserError, match=r"has no dataset\.json but another tool's, .*folders train and test"
    ):
        load_splits(tmp_path)


@pytest.mark.parametrize("gan", ["cgan", "dcgan"])
def test_samples_are_the_windows_of_pieces_as_generate_makes_them(gan, runs, known):
    checkpoint, dataset = load_checkpoint(runs[gan]), load_dataset(known)
    source = runs[gan] / "checkpoints" / "latest.pt"
    samples = sample_checkpoint(
        checkpoint, source, dataset, count=43, seed=3, device=CPU, seconds=12.0
    )
    assert samples.images.pixels.shape == (44, 64, 64)
    assert samples.images.clips.tolist() == np.repeat(np.arange(11), 4).tolist()
    assert samples.positions.tolist() == list(range(4)) * 11
    assert samples.facts["samples"] == 44
    labels = samples.images.labels[::4]
    assert np.bincount(labels).tolist() == [4, 4, 3]
    sampler = Sampler(checkpoint, CPU)
    for number in (0, 10):
        genre = sampler.one_hot(GENRES[labels[number]], 1)[0]
        take = LatentSpec("", "", (number, "evaluation", 3))
        made = piece(sampler, take, genre, genre, 259, loops=False, truncation=1.0)  # 12.03 s
        windows = samples.images.pixels[4 * number : 4 * number + 4]
        np.testing.assert_array_equal(np.concatenate(list(windows), axis=1), made[:, :256])


def test_a_choice_of_pieces_is_one_of_whole_pieces(known, fresh, tmp_path):
    dataset = load_dataset(known)
    put_pieces(tmp_path / "pieces", tracks_in(fresh))
    first, again, other = (
        read_folder(tmp_path / "pieces", dataset, 60, seed, seconds=15.0) for seed in (5, 5, 6)
    )
    assert len(first.images) == 60 and first.images.n_clips == 12
    np.testing.assert_array_equal(first.images.pixels, again.images.pixels)
    assert (first.images.pixels != other.images.pixels).any()


# Windows of clips


def clip_windows(clips: list[int], places: list[int]) -> ClipWindows:
    """Every pixel of an image is its number."""
    pixels = np.arange(len(clips), dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    return ClipWindows(ImageSet(pixels, np.array(clips) % 2, np.array(clips)), np.array(places))


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [(2.9, 0), (2.972, 1), (3, 1), (5.8, 1), (6, 2), (30, 10), (600, 201), (3600, 1211)],
)
def test_windows_of_a_piece(seconds, windows):
    for size in (64, 128):
        assert windows_in(seconds, SpectrogramConfig.for_image_size(size)) == windows


def test_a_piece_is_cut_into_consecutive_windows_and_a_remainder_is_dropped():
    piece = np.arange(2 * 7, dtype=np.uint8).reshape(2, 7)
    windows = split_windows(piece, 3)
    assert windows.tolist() == [[[0, 1, 2], [7, 8, 9]], [[3, 4, 5], [10, 11, 12]]]
    assert split_windows(piece, 8).shape == (0, 2, 8)


def test_runs_are_without_holes_and_in_order():
    of = clip_windows([5, 5, 3, 5, 3, 5], [4, 0, 1, 5, 0, 1])
    assert [rows.tolist() for rows in of.rows_by_clip()] == [[4, 2], [1, 5, 0, 3]]
    assert [rows.tolist() for rows in of.longest_runs()] == [[4, 2], [1, 5]]
    assert of.concatenate(of.longest_runs()[0]).tolist() == [[4, 4, 2, 2]] * 2
    assert of.take(np.zeros(6, dtype=bool)).longest_runs() == []


def test_whole_clips_are_drawn():
    clips = np.repeat(np.arange(10), 4)
    rng = np.random.default_rng(0)
    for count, drawn in ((40, 10), (39, 10), (12, 3), (9, 3), (1, 1)):
        mask = choose_clips(clips, count, rng)
        assert sorted(np.unique(clips[mask], return_counts=True)[1]) == [4] * drawn
    assert any((choose_clips(clips, 4, rng) != choose_clips(clips, 4, rng)).any() for _ in range(5))


def test_tracks_keep_their_numbers_and_genres_go_by_name():
    dataset = ImageDataset(
        name="any",
        pixels=np.arange(8, dtype=np.uint8)[:, None, None],
        rows=np.array([1, 2, 3, 5, 6]),
        labels=np.array([0, 0, 1, 2, 2]),
        genres=["jazz", "polka", "rock"],
        tracks=np.array([0, 0, 1, 2, 2]),
        segments=np.array([0, 2, 0, 3, 4]),
        spectrogram=SpectrogramConfig(),
        fingerprint="",
    )
    found = load_tracks(dataset, ["rock", "jazz"], 100, np.random.default_rng(0))
    assert found.images.pixels.ravel().tolist() == [1, 2, 5, 6]
    assert found.images.labels.tolist() == [1, 1, 0, 0]
    assert found.images.clips.tolist() == [0, 0, 2, 2]
    assert found.positions.tolist() == [0, 2, 3, 4]
    one = load_tracks(dataset, ["rock", "jazz"], 2, np.random.default_rng(0))
    assert one.images.n_clips == 1 and len(one.images) == 2

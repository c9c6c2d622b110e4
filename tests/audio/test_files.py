"""Loading clips of every format, whole, cut off and damaged, and saving them."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import audioread
import librosa
import mutagen
import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from musicspectrogan.audio import decoding
from musicspectrogan.audio.files import (
    AudioError,
    comment_of,
    is_audio,
    load,
    read_tags,
    save,
)
from musicspectrogan.audio.tempo import Tempo
from musicspectrogan.data import composer
from musicspectrogan.errors import UserError

RATE = composer.SAMPLE_RATE

# Format, and least correlation with the original: lossy formats change the waveform a little.
FORMATS = {
    "wav": ("WAV", 0.9999),
    "flac": ("FLAC", 0.9999),
    "ogg": ("OGG", 0.99),
    "mp3": ("MP3", 0.98),
    "au": ("AU", 0.9999),
    "aiff": ("AIFF", 0.9999),
}


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return composer.compose("chords", 0, seed=1, seconds=4.0)


@pytest.fixture(scope="module")
def clips(music: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same four seconds in every format, by suffix."""
    folder = tmp_path_factory.mktemp("clips")
    paths = {suffix: folder / f"clip.{suffix}" for suffix in FORMATS}
    for suffix, path in paths.items():
        soundfile.write(path, music, RATE, format=FORMATS[suffix][0])
    return paths


def cut_off(path: Path, share: float, folder: Path) -> Path:
    """A copy of the file that breaks off after this share of its bytes."""
    contents = path.read_bytes()
    copy = folder / path.name
    copy.write_bytes(contents[: int(share * len(contents))])
    return copy


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_loads(clips: dict[str, Path], music: np.ndarray, suffix: str) -> None:
    audio = load(clips[suffix], RATE)
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == music.shape
    assert correlation(audio.samples, music) > FORMATS[suffix][1]
    assert audio.warning == ""


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"]
)
def test_every_usual_kind_of_wav_loads_at_full_scale(
    music: np.ndarray, tmp_path: Path, subtype: str
) -> None:
    path = tmp_path / "clip.WAV"
    soundfile.write(path, music, RATE, subtype=subtype)
    samples = load(path, RATE).samples
    assert np.abs(samples).max() == pytest.approx(0.9, abs=0.02)
    assert np.abs(samples - music).max() < 0.03


def test_stereo_is_mixed_down(music: np.ndarray, tmp_path: Path) -> None:
    left, right = music, np.roll(music, 5000)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load(path, RATE).samples, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("source_rate", [8000, 16000, 44100, 48000])
def test_resampling_equals_librosa(music: np.ndarray, tmp_path: Path, source_rate: int) -> None:
    path = tmp_path / "other_rate.wav"
    soundfile.write(path, np.stack([music, music[::-1]], axis=1), source_rate, subtype="FLOAT")
    expected, _ = librosa.load(path, sr=RATE, mono=True, res_type="soxr_hq")
    samples = load(path, RATE).samples
    assert samples.dtype == np.float32
    assert abs(len(samples) - len(expected)) <= 1
    length = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:length], expected[:length], atol=1e-5)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "au", "aiff"])
def test_a_cut_off_file_is_loaded_as_far_as_it_goes(
    clips: dict[str, Path],
    music: np.ndarray,
    tmp_path: Path,
    suffix: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    audio = load(cut_off(clips[suffix], 0.6, tmp_path), RATE)
    seconds = len(audio.samples) / RATE
    assert 1.9 < seconds < 2.5
    assert correlation(audio.samples, music) > FORMATS[suffix][1]
    assert audio.warning == (
        f"ends after {seconds:.1f} s of the 4.0 s that its header says; converted as far as it goes"
    )
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_a_file_that_breaks_off_in_its_header_is_refused(
    clips: dict[str, Path], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"stump.{suffix}"
    path.write_bytes(clips[suffix].read_bytes()[:20])
    with pytest.raises(AudioError, match=r"does not decode: \w+"):
        load(path, RATE)


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_under_an_audio_name_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes.{suffix}"
    path.write_text("this is a text\n" * 200)
    with pytest.raises(AudioError, match=r"does not decode: \w+"):
        load(path, RATE)


def test_the_reason_for_an_undecodable_mp3_is_not_that_it_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mp3"
    path.write_bytes(bytes(5000))
    with pytest.raises(AudioError, match="does not decode") as refusal:
        load(path, RATE)
    assert "does not exist" not in str(refusal.value)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty.{suffix}"
    path.touch()
    with pytest.raises(AudioError, match=r"^file is empty$"):
        load(path, RATE)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "header_only.wav"
    soundfile.write(path, np.zeros(0), RATE)
    with pytest.raises(AudioError, match=r"^no audio in it$"):
        load(path, RATE)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    for name in ("missing.wav", "folder.wav"):
        with pytest.raises(AudioError, match=r"^file is missing$"):
            load(tmp_path / name, RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(
    music: np.ndarray, tmp_path: Path, value: float
) -> None:
    damaged = music.copy()
    damaged[500] = value
    path = tmp_path / "damaged.wav"
    soundfile.write(path, damaged, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"^samples that are not finite numbers$"):
        load(path, RATE)


# A fake ffmpeg: announces four seconds of AAC, and outputs what follows the file's first line.
FFMPEG = """#!{python}
import sys
if "-version" in sys.argv:
    sys.exit()
name = sys.argv[sys.argv.index("-i") + 1]
if ":" in name.split("/")[0]:
    sys.exit(name + ": Protocol not found")
with open(name, "rb") as file:
    if not file.readline().rstrip().endswith(b"AAC"):
        sys.exit("x: Invalid data found when processing input")
    sys.stderr.write("  Duration: 00:00:04.00, start: 0.0\\n")
    sys.stderr.write("  Stream #0: Audio: aac, 22050 Hz, mono, x\\n")
    sys.stderr.flush()
    sys.stdout.buffer.write(file.read())
"""


@pytest.fixture(params=[True, False], ids=["ffmpeg", "no ffmpeg"])
def has_ffmpeg(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether the commands that can be found have ffmpeg among them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param:
        (folder / "ffmpeg").write_text(FFMPEG.format(python=sys.executable))
        (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(audioread, "BACKENDS", [])
    return request.param


@pytest.mark.parametrize("name", ["x.mp3", "x.wav", "x.flac", "x.ogg", "x.au", "x.m4a", "x.MP2"])
def test_what_libsndfile_refuses_goes_to_ffmpeg_whatever_its_suffix(
    music: np.ndarray, tmp_path: Path, name: str, has_ffmpeg: bool
) -> None:
    path = tmp_path / name
    samples = (music * 32767).astype("<i2")
    path.write_bytes(b"\xff\xf1 AAC\n" + samples.tobytes())
    if has_ffmpeg:
        audio = load(path, RATE)
        np.testing.assert_array_equal(audio.samples, samples / np.float32(32768))
        plain = "" if name == "x.m4a" else "decoded by ffmpeg, because libsndfile does not: "
        assert audio.warning.startswith(plain) and bool(audio.warning) is bool(plain)
    else:
        message = (
            r"^does not decode: .+; ffmpeg, which reads more formats, is not installed here: ins"
        )
        with pytest.raises(AudioError, match=message):
            load(path, RATE)


@pytest.mark.parametrize("has_ffmpeg", [True], indirect=True)
@pytest.mark.parametrize(
    "head", [b"RIFF\0\0\0\0WAVE AAC\n", b".snd AAC\n", b"FORM\0\0\0\x08AIFF AAC\n", b"fLaC AAC\n"]
)
def test_a_file_that_begins_as_another_format_does_goes_there_too(
    music: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_ffmpeg: bool,
    head: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = (music * 32767).astype("<i2")
    Path("a:b.wav").write_bytes(head + samples.tobytes())
    np.testing.assert_array_equal(load(Path("a:b.wav"), RATE).samples, samples / np.float32(32768))


@pytest.mark.parametrize("has_ffmpeg", [True], indirect=True)
def test_what_ffmpeg_reads_in_part_or_not_at_all_is_reported(
    music: np.ndarray, tmp_path: Path, has_ffmpeg: bool
) -> None:
    path = tmp_path / "x.m4a"
    path.write_bytes(b"MP4 AAC\n" + (music[: 2 * RATE] * 32767).astype("<i2").tobytes())
    audio = load(path, RATE)
    assert len(audio.samples) == 2 * RATE
    assert (
        audio.warning
        == "ends after 2.0 s of the 4.0 s that its header says; converted as far as it goes"
    )
    path.write_bytes(b"text\n" * 200)
    with pytest.raises(
        AudioError, match=r"^does not decode: .+; ffmpeg does not decode it either$"
    ):
        load(path, RATE)


CANCELLING = {
    "antiphase": lambda x: ([x, -x], x),
    "nearly": lambda x: ([0.8 * x, -x], -x),
    "with a little else": lambda x: ([x, -x + 0.05 * np.roll(x, 5000)], x),
    "four channels": lambda x: ([x, -x, 0.5 * x, -0.5 * x], x),
    "for a third of the time": lambda x: ([x, np.where(np.arange(len(x)) < len(x) // 3, -x, x)], x),
    "between silences": lambda x: ([np.pad(x, 10**6), np.pad(-x, 10**6)], np.pad(x, 10**6)),
    "very softly": lambda x: ([x / 3000, -x / 3000], x / 3000),
}


@pytest.mark.parametrize("case", CANCELLING)
def test_channels_that_cancel_each_other_are_not_mixed(
    music: np.ndarray, tmp_path: Path, case: str
) -> None:
    channels, expected = CANCELLING[case](np.tile(music, 3))
    soundfile.write(tmp_path / "x.wav", np.stack(channels, axis=1), RATE, subtype="FLOAT")
    audio = load(tmp_path / "x.wav", RATE)
    assert correlation(audio.samples, expected) > 0.99
    assert audio.peak == pytest.approx(np.abs(expected).max(), rel=0.1)
    assert re.fullmatch(
        r"its channels cancel each other in \d+% of it; channel [12] was taken alone", audio.warning
    )


MIXING = {
    "mono as stereo": lambda x: [x, x],
    "one silent": lambda x: [x, 0 * x],
    "unrelated": lambda x: [x, x[::-1]],
    "opposed in part": lambda x: [x, -0.3 * x],
    "wide": lambda x: [x + 0.8 * x[::-1], x - 0.8 * x[::-1]],
    "antiphase noise at the last bit": lambda x: [x * 0 + 2**-15, x * 0 - 2**-15],
    "six": lambda x: [np.roll(x, 3000 * k) * (-1) ** k for k in range(6)],
}


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_channels_that_cancel_each_other_but_for_what_a_codec_adds_are_not_mixed(
    music: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    soundfile.write(tmp_path / f"x.{suffix}", np.stack([music, -music], axis=1), RATE)
    audio = load(tmp_path / f"x.{suffix}", RATE)
    assert abs(correlation(audio.samples, music)) > 0.95
    assert audio.warning.endswith(" was taken alone")


def test_channels_that_cancel_each_other_for_a_moment_are_mixed_with_a_warning(
    music: np.ndarray, tmp_path: Path
) -> None:
    clip = np.tile(music, 10)
    channels = [clip, np.where(np.arange(len(clip)) < 70_000, -clip, clip)]
    soundfile.write(tmp_path / "x.wav", np.stack(channels, axis=1), RATE, subtype="FLOAT")
    audio = load(tmp_path / "x.wav", RATE)
    np.testing.assert_allclose(audio.samples, np.mean(channels, axis=0), atol=1e-6)
    assert audio.warning == "its channels cancel each other in 7% of it"


@pytest.mark.parametrize("case", MIXING)
def test_other_channels_are(music: np.ndarray, tmp_path: Path, case: str) -> None:
    channels = MIXING[case](music)
    soundfile.write(tmp_path / "x.wav", np.stack(channels, axis=1), RATE, subtype="FLOAT")
    audio = load(tmp_path / "x.wav", RATE)
    np.testing.assert_allclose(audio.samples, np.mean(channels, axis=0), atol=1e-6)
    assert audio.warning == ""


class Ragged:
    """A decoder whose blocks end within a frame, as ffmpeg's do."""

    samplerate = RATE

    def __init__(self, samples: np.ndarray) -> None:
        self.channels = samples.shape[1]
        self.data = samples.astype("<i2").tobytes()

    def __enter__(self) -> Ragged:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self):
        return iter([self.data[start : start + 1001] for start in range(0, len(self.data), 1001)])


def test_blocks_that_end_within_a_frame_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, (5000, 3))
    monkeypatch.setattr(audioread, "audio_open", lambda path, decoders: Ragged(samples))
    (tmp_path / "x.m4a").write_bytes(b"x")
    np.testing.assert_allclose(
        load(tmp_path / "x.m4a", RATE).samples, samples.mean(axis=1) / 32768, atol=1e-6
    )
    monkeypatch.setattr(audioread, "audio_open", lambda path, decoders: Ragged(np.zeros((10, 65))))
    with pytest.raises(AudioError, match="65 channels are too many"):
        load(tmp_path / "x.m4a", RATE)


@pytest.mark.parametrize(
    "name", ["a.wav", "a.WAV", "a.Mp3", "a.b.flac", "a.m4a", "a.aif", ".a.mp3", "...And.wav"]
)
def test_audio_is_known_by_its_suffix(name: str) -> None:
    assert is_audio(name)


@pytest.mark.parametrize("name", ["._a.wav", ".a.wav.tmp", "a.png", "wav", "a.wav.txt"])
def test_other_names_and_files_of_systems_are_no_audio(name: str) -> None:
    assert not is_audio(name)


def test_saving_and_loading_gives_the_samples_back(music: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "saved.wav"
    save(path, music, RATE, comment="made by a test")
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.subtype, file.channels) == ("WAV", "PCM_16", 1)
        assert file.comment == "made by a test"
    np.testing.assert_allclose(load(path, RATE).samples, music, atol=1.0 / 32767)
    assert [p.name for p in tmp_path.iterdir()] == ["saved.wav"]


def tempo_tag(path: Path) -> str | None:
    """The tempo that mutagen reads."""
    tags = mutagen.File(path).tags or {}
    found = tags.get("BPM") or tags.get("TBPM")
    return None if found is None else str(found[0])


@pytest.mark.parametrize(
    "comment", ["seed 1", "OggS date=0 é " * 5, ""], ids=["short", "long", "none"]
)
@pytest.mark.parametrize("bpm", [120.0, 97.48, 60.0])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_other_programs_read_the_tempo(
    music: np.ndarray, tmp_path: Path, suffix: str, bpm: float, comment: str
) -> None:
    tagged, plain = tmp_path / f"tagged.{suffix}", tmp_path / f"plain.{suffix}"
    tags = {"genre": "jäzz", "comment": comment} if comment else {}
    save(tagged, music[:-1], RATE, bit_depth=24, tempo=Tempo(bpm), **tags)
    save(plain, music[:-1], RATE, bit_depth=24, **tags)
    assert tempo_tag(tagged) == (f"{bpm:.0f}" if suffix in ("wav", "mp3") else f"{bpm:g}")
    assert tempo_tag(plain) is None
    np.testing.assert_array_equal(soundfile.read(tagged)[0], soundfile.read(plain)[0])
    assert load(tagged, RATE).warning == ""
    with soundfile.SoundFile(tagged) as file:
        assert (file.genre, file.comment, file.date) == (tags.get("genre", ""), comment, "")
    assert b"acid" not in tagged.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("loops", "kind"), [(True, "Loop"), (False, "OneShot")])
@pytest.mark.parametrize("depth", [16, 24])
def test_a_wav_of_whole_beats_tells_samplers_how_many(
    music: np.ndarray, tmp_path: Path, depth: int, loops: bool, kind: str
) -> None:
    path = tmp_path / "x.wav"
    save(
        path,
        music[: 3 * RATE + 1],
        RATE,
        bit_depth=depth,
        loops=loops,
        tempo=Tempo(118.5, 6),
        genre="jaz",
    )
    with soundfile.SoundFile(path) as file:
        message = " ".join(file.extra_info.split())  # libsndfile's notes on the chunks
    assert "Beats : 6 Meter : 4/4 Tempo : 118.500000" in message
    assert f"({kind}," in message
    assert tempo_tag(path) == "118"  # to the even one
    names = [name for name, _ in chunks(path.read_bytes())]
    assert names == [b"fmt ", b"LIST", b"data", b"id3 ", b"acid", *[b"smpl"] * loops]


@pytest.mark.parametrize("suffix", ["ogg", "flac"])
def test_minutes_are_saved_in_every_format(suffix: str, tmp_path: Path) -> None:
    """libvorbis overflows the stack if it gets a minute and a half at once."""
    tone = 0.3 * np.sin(2 * np.pi * 440.0 / RATE * np.arange(150 * RATE, dtype=np.float32))
    save(tmp_path / f"x.{suffix}", tone, RATE)
    read, _ = soundfile.read(tmp_path / f"x.{suffix}", dtype="float32")
    assert len(read) == len(tone)
    assert np.abs(read - tone).max() < 0.05


RATES = {
    "mp3": (30000, 16000, "only 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000"),
    "ogg": (200_001, 200_000, "only up to 200000"),
    "flac": (96_001, 96_010, "above 65535 only multiples of 10 up to 655350"),
}


@pytest.mark.parametrize("suffix", RATES)
def test_a_rate_that_a_format_has_not_is_refused_with_those_it_has(
    music: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    wrong, right, rates = RATES[suffix]
    message = (
        f"--format {suffix}: has no sample rate of {wrong} Hz, {rates}; give --format wav, or "
    )
    with pytest.raises(UserError, match=re.escape(message)):
        save(tmp_path / f"x.{suffix}", music, wrong)
    assert not list(tmp_path.iterdir())
    save(tmp_path / f"x.{suffix}", music, right)
    with soundfile.SoundFile(tmp_path / f"x.{suffix}") as file:
        assert (file.samplerate, len(file.read())) == (right, len(music))
    save(tmp_path / "x.wav", music, wrong)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and contents of each chunk of a WAV file, whose sizes must add up."""
    kind, size, form = struct.unpack("<4sI4s", data[:12])
    assert (kind, size, form) == (b"RIFF", len(data) - 8, b"WAVE")
    found, place = [], 12
    while place < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        assert place % 2 == 0 and place + 8 + size <= len(data)
        found.append((name, data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


@pytest.mark.filterwarnings("ignore:Chunk")  # scipy passes over what is no sound, and says so
@pytest.mark.parametrize("tags", [{}, {"genre": "jazz"}, {"genre": "jaz", "comment": "seed 1"}])
@pytest.mark.parametrize("frames", [3 * RATE, 3 * RATE + 1])
def test_a_looping_wav_has_loop_points(
    frames: int, tags: dict, music: np.ndarray, tmp_path: Path
) -> None:
    clip = music[:frames]
    save(tmp_path / "once.wav", clip, RATE, **tags)
    save(tmp_path / "loop.wav", clip, RATE, loops=True, **tags)
    once, loop = ((tmp_path / name).read_bytes() for name in ("once.wav", "loop.wav"))
    *others, (name, points) = chunks(loop)
    assert others == chunks(once) and name == b"smpl"
    # Maker, product, period in ns, note, its fraction, SMPTE format and offset, loops, more data.
    assert struct.unpack("<9I", points[:36]) == (0, 0, 45351, 60, 0, 0, 0, 1, 0)
    # Cue, type forward, first and last frame, fraction, repeats or 0 for ever.
    assert struct.unpack("<6I", points[36:]) == (0, 0, 0, frames - 1, 0, 0)
    read = scipy.io.wavfile.read(tmp_path / "loop.wav")
    assert read[0] == RATE
    np.testing.assert_array_equal(read[1], soundfile.read(tmp_path / "once.wav", dtype="int16")[0])
    np.testing.assert_array_equal(read[1], soundfile.read(tmp_path / "loop.wav", dtype="int16")[0])
    save(tmp_path / "again.wav", clip, RATE, loops=True, **tags)
    assert (tmp_path / "again.wav").read_bytes() == loop
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("frames", [65536, 132096, 37 * 1024, 12345])
def test_a_loop_is_seamless_in_flac_and_ogg(frames: int, tmp_path: Path) -> None:
    """As many samples as were written, and a coding error no larger at the ends than elsewhere."""
    time = np.arange(frames)
    turns = [round(frames * hertz / RATE) for hertz in (110, 220, 331, 997, 3000)]
    clip = sum(0.15 * np.sin(2 * np.pi * count * time / frames + count) for count in turns)
    for suffix, most in (("flac", 1 / 32767), ("ogg", 0.05)):
        save(tmp_path / f"x.{suffix}", clip.astype(np.float32), RATE, loops=True)
        samples, _ = soundfile.read(tmp_path / f"x.{suffix}")
        assert len(samples) == frames
        error = np.roll(samples - clip, 200)
        assert np.sqrt(np.mean(error[:400] ** 2)) < 2 * np.sqrt(np.mean(error**2))
        assert np.abs(error).max() < most


def header(rate: int, channels: int) -> bytes:
    """A WAV of 1000 bytes of silence."""
    sizes = (rate * channels * 2 & 0xFFFFFFFF, channels * 2, 16)
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 1036, b"WAVE", b"fmt ", 16, 1, channels, rate, *sizes
    )
    return head + struct.pack("<4sI", b"data", 1000) + bytes(1000)


@pytest.mark.parametrize(
    ("rate", "channels", "message"),
    [
        (1, 1, "its sample rate of 1 Hz is implausible"),
        (2**31 - 1, 1, "its sample rate of 2147483647 Hz is implausible"),
        (22050, 500, "500 channels are too many"),
    ],
)
def test_rates_and_channels_that_are_implausible_are_refused(tmp_path, rate, channels, message):
    path = tmp_path / "x.wav"
    path.write_bytes(header(rate, channels))
    with pytest.raises(AudioError, match=message):
        load(path, RATE)


def test_more_hours_than_fit_into_memory_are_refused(music, tmp_path, monkeypatch):
    path = tmp_path / "x.flac"
    save(path, music, RATE)
    monkeypatch.setattr(decoding, "MAX_HOURS", 1 / 3600)
    with pytest.raises(AudioError, match=r"longer than .* hours; cut it into pieces"):
        load(path, RATE)


def test_tags_are_read_back(music, tmp_path):
    save(tmp_path / "x.flac", music, RATE, genre="jazz", comment="seed 1")
    tags = read_tags(tmp_path / "x.flac")
    assert (tags["genre"], tags["comment"]) == ("jazz", "seed 1")
    assert comment_of(tmp_path / "x.flac") == "seed 1"
    (tmp_path / "x.wav").write_text("text")
    for name in ("x.wav", "missing.wav"):
        assert read_tags(tmp_path / name) == {} and comment_of(tmp_path / name) == ""


def test_tags_are_one_printable_line(music, tmp_path):
    save(tmp_path / "x.flac", music, RATE, genre="a\nb\x1b\udcff")
    with soundfile.SoundFile(tmp_path / "x.flac") as file:
        assert file.genre == "a\\nb\\x1b\\udcff"

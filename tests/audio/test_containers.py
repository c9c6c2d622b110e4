"""Files that hold more, or other, than their headers say: estimated lengths, chains, pipes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicspectrogan.audio import decoding
from musicspectrogan.audio.files import AudioError, load
from musicspectrogan.data import composer

RATE = composer.SAMPLE_RATE
SECONDS = 6.0
ID3 = (
    b"ID3\x04\0\0\0\0\x20\0" + b"\xff\xfb\x90\x64" * 1024
)  # a tag of 4096 bytes that look like frames


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    """Loud for a second, then soft: a variable bit rate falls far below its initial value."""
    clip = composer.compose("chords", 0, seed=1, seconds=SECONDS)
    noise = np.convolve(np.random.default_rng(0).normal(0, 0.06, RATE), np.ones(8), "same")
    return np.concatenate([noise, 0.3 * clip[RATE:]]).astype(np.float32)


KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def encoded(samples: np.ndarray, form: str, rate: int = RATE, **options: object) -> bytes:
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, format=form, **options) as sound:
        sound.write(samples)
    return file.getvalue()


def mpeg_frames(data: bytes) -> list[bytes]:
    """An MP3 of 22,050 Hz, frame by frame; the first has the counts and no sound."""
    place, frames = 0, []
    while place < len(data):
        padding, kbits = data[place + 2] >> 1 & 1, KBITS[data[place + 2] >> 4]
        length = 72_000 * kbits // RATE + padding
        frames.append(data[place : place + length])
        place += length
    return frames


@pytest.fixture(scope="module")
def mp3(music: np.ndarray) -> list[bytes]:
    """The frames of an MP3 of variable bit rate."""
    options = {"subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.3}
    frames = mpeg_frames(encoded(music, "MP3", **options))
    assert b"Xing" in frames[0] and len({len(frame) for frame in frames}) > 3
    return frames


def similarity(samples: np.ndarray, expected: np.ndarray) -> float:
    """How alike two sounds are that may be shifted by a codec's delay, as a correlation."""
    size = len(samples) + len(expected)
    spectra = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(expected, size))
    return float(
        np.fft.irfft(spectra, size).max() / (np.linalg.norm(samples) * np.linalg.norm(expected))
    )


class TestLengthsThatADecoderEstimates:
    @pytest.mark.parametrize(
        "form", ["bare", "tagged", "cut at both ends", "broken", "a tag cut out"]
    )
    def test_an_mp3_of_variable_bit_rate_without_counts_is_read_to_its_end(
        self, mp3: list[bytes], music: np.ndarray, tmp_path: Path, form: str
    ) -> None:
        sound = b"".join(mp3[1:])
        half = sum(map(len, mp3[1:100]))
        contents = {
            "bare": sound,
            "tagged": ID3 + sound + b"TAG" + bytes(125),
            "cut at both ends": sound[100:-100],
            "a tag cut out": ID3[:6] + b"\x7f\x7f\x7f\x7f" + sound,
            "broken": sound[:half] + b"\xaa" * 5000 + sound[half:],
        }[form]
        (tmp_path / "x.mp3").write_bytes(contents)
        if form == "bare":
            with soundfile.SoundFile(tmp_path / "x.mp3") as file:
                assert file.frames < 4 * RATE, (
                    "libsndfile knows the length: no case of its estimate"
                )
        audio = load(tmp_path / "x.mp3", RATE)
        assert len(audio.samples) / RATE == pytest.approx(SECONDS, abs=0.1)
        assert similarity(audio.samples, music) > 0.98
        warning = "5000 bytes cannot be read as audio" if form == "broken" else ""
        assert audio.warning == warning

    def test_an_mp3_whose_counts_are_too_low_is_read_to_its_end(
        self, mp3: list[bytes], tmp_path: Path
    ) -> None:
        """As where a program has joined two."""
        (tmp_path / "x.mp3").write_bytes(b"".join([*mp3, *mp3[1:]]))
        audio = load(tmp_path / "x.mp3", RATE)
        assert len(audio.samples) / RATE == pytest.approx(2 * SECONDS, abs=0.2)
        assert audio.warning == ""

    def test_an_mp3_with_fraunhofers_counts_is_read_and_measured_by_them(
        self, mp3: list[bytes], tmp_path: Path
    ) -> None:
        sound = mp3[1:]
        head = max(sound, key=len)
        counts = struct.pack(">4s3H2I", b"VBRI", 1, 0, 75, sum(map(len, sound)), len(sound))
        first = (head[:4] + bytes(32) + counts).ljust(len(head), b"\0")
        (tmp_path / "x.mp3").write_bytes(first + b"".join(sound))
        audio = load(tmp_path / "x.mp3", RATE)
        assert (
            len(audio.samples) == pytest.approx(576 * len(sound), abs=600) and audio.warning == ""
        )
        (tmp_path / "x.mp3").write_bytes(first + b"".join(sound[:100]))
        audio = load(tmp_path / "x.mp3", RATE)
        assert len(audio.samples) == pytest.approx(57600, abs=600)
        assert audio.warning.startswith("ends after 2.6 s of the 6.0 s that its")

    def test_a_flac_that_went_through_a_pipe_is_whole(
        self, music: np.ndarray, tmp_path: Path
    ) -> None:
        data = bytearray(encoded(music, "FLAC"))
        data[21] &= 0xF0  # the 36 bits in which it counts its samples
        data[22:26] = bytes(4)
        for contents in (data, data + b"TAG" + bytes(125)):
            (tmp_path / "x.flac").write_bytes(contents)
            audio = load(tmp_path / "x.flac", RATE)
            np.testing.assert_allclose(audio.samples, music, atol=1 / 32768)
            assert audio.warning == ""

    def test_hours_are_limited_whatever_a_header_says(
        self, mp3: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "x.mp3").write_bytes(b"".join(mp3[1:]))
        monkeypatch.setattr(decoding, "MAX_HOURS", 5 / 3600)
        with pytest.raises(AudioError, match=r"longer than .* hours; cut it into pieces"):
            load(tmp_path / "x.mp3", RATE)


class TestSeveralRecordingsInOneFile:
    @pytest.mark.parametrize("form", ["MP3", "OGG", "FLAC", "WAV", "AIFF", "AU"])
    def test_all_are_read_and_the_report_says_so(
        self, music: np.ndarray, tmp_path: Path, form: str
    ) -> None:
        path = tmp_path / f"x.{form.lower()}"
        path.write_bytes(encoded(music, form) + encoded(music[::-1], form))
        audio = load(path, RATE)
        assert abs(len(audio.samples) - 2 * len(music)) <= 2
        assert similarity(audio.samples, np.concatenate([music, music[::-1]])) > 0.98
        assert audio.warning == "2 recordings one after another, taken as one"

    @pytest.mark.parametrize("form", ["MP3", "OGG", "WAV"])
    def test_they_may_differ_in_rate_and_channels(
        self, music: np.ndarray, tmp_path: Path, form: str
    ) -> None:
        path = tmp_path / f"x.{form.lower()}"
        stereo = np.stack([music, music], axis=1)
        path.write_bytes(
            ID3 * (form != "WAV") + encoded(music, form) + encoded(stereo, form, 44100)
        )
        audio = load(path, RATE)
        assert len(audio.samples) / RATE == pytest.approx(1.5 * SECONDS, abs=0.01)
        assert similarity(audio.samples[: len(music)], music) > 0.98
        faster = np.arange(0, len(music) - 1, 2)
        assert similarity(audio.samples[len(music) :], music[faster]) > 0.9

    @pytest.mark.parametrize("form", ["MP3", "FLAC", "WAV", "AU"])
    def test_what_the_last_one_lacks_is_reported(
        self, music: np.ndarray, tmp_path: Path, form: str
    ) -> None:
        path = tmp_path / f"x.{form.lower()}"
        whole, cut = encoded(music, form), encoded(music[::-1], form)
        path.write_bytes(whole + cut[: len(cut) * 6 // 10])
        audio = load(path, RATE)
        seconds = len(audio.samples) / RATE
        assert 1.2 * SECONDS < seconds < 1.9 * SECONDS
        assert (
            f"only {seconds:.1f} s of the {2 * SECONDS:.1f} s that their headers say decode"
            in audio.warning
        )

    def test_a_recording_that_does_not_decode_costs_that_one(
        self, music: np.ndarray, tmp_path: Path
    ) -> None:
        path = tmp_path / "x.flac"
        whole = encoded(music, "FLAC")
        path.write_bytes(whole + whole[:42] + bytes(3000) + whole)
        audio = load(path, RATE)
        assert len(audio.samples) == 2 * len(music)
        assert "recording 2 of 3 does not decode" in audio.warning


class TestWhatIsNotRead:
    @pytest.mark.parametrize("form", ["OGG", "WAV", "AIFF", "AU"])
    def test_other_bytes_at_the_end_are_reported(
        self, music: np.ndarray, tmp_path: Path, form: str
    ) -> None:
        path = tmp_path / f"x.{form.lower()}"
        path.write_bytes(encoded(music, form) + b"\xaa" * 5000)
        audio = load(path, RATE)
        assert len(audio.samples) == len(music)
        assert audio.warning == "5000 bytes cannot be read as audio"

    @pytest.mark.parametrize("form", ["MP3", "OGG", "FLAC", "WAV", "AIFF"])
    def test_tags_are_not(self, music: np.ndarray, tmp_path: Path, form: str) -> None:
        path = tmp_path / f"x.{form.lower()}"
        path.write_bytes(ID3 + encoded(music, form) + b"TAG" + bytes(125))
        audio = load(path, RATE)
        assert abs(len(audio.samples) - len(music)) <= 2
        assert audio.warning == ""

    def test_an_ogg_that_breaks_off_or_has_a_hole_is_reported(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).normal(0, 0.2, 12 * RATE).astype(np.float32)
        data, path = encoded(noise, "OGG"), tmp_path / "x.ogg"
        pages = [b"OggS" + page for page in data.split(b"OggS")[1:]]
        assert len(pages) > 8
        path.write_bytes(data[: len(data) // 2])
        assert load(path, RATE).warning == "breaks off before its last page"
        path.write_bytes(b"".join(pages[:5] + pages[7:]))
        assert "2 of its pages are missing" in load(path, RATE).warning
        path.write_bytes(
            b"".join(pages[:2] + pages[4:])
        )  # begins later, as what is recorded from a station
        audio = load(path, RATE)
        assert 6 < len(audio.samples) / RATE < 12
        assert audio.warning == ""

    def test_an_ogg_without_its_first_page_is_refused(
        self, music: np.ndarray, tmp_path: Path
    ) -> None:
        data = encoded(music, "OGG")
        for tag in (b"", ID3):
            (tmp_path / "x.ogg").write_bytes(tag + data[data.index(b"OggS", 4) :])
            with pytest.raises(AudioError, match="does not decode"):
                load(tmp_path / "x.ogg", RATE)


MOST = 2**32 - 1
PIPES = {
    "ffmpeg and mpg123": (MOST, MOST),
    "sox": (0x7FFFF024, 0x7FFFF000),
    "arecord": (0x7FFFFF24, 0x7FFFFF00),
    "less the header": (MOST - 36, MOST - 44),
    "a sign and more": (2**31 + 36, 2**31),
    "nothing counted": (0, 0),
    "an empty header": (36, 0),
    "never closed": (MOST, 0),
}


class TestHeadersOfStreams:
    """A size that was not known when the header was written is no damage."""

    @pytest.mark.parametrize("sizes", PIPES.values(), ids=PIPES)
    @pytest.mark.parametrize("listed", [b"", b"LIST\x0e\0\0\0INFOISFT\x02\0\0\0x\0"])
    def test_a_wav_is_whole(
        self, music: np.ndarray, tmp_path: Path, sizes: tuple[int, int], listed: bytes
    ) -> None:
        data = encoded(music, "WAV")
        riff, length = (struct.pack("<I", size) for size in sizes)
        (tmp_path / "x.wav").write_bytes(
            data[:4] + riff + data[8:36] + listed + b"data" + length + data[44:]
        )
        audio = load(tmp_path / "x.wav", RATE)
        np.testing.assert_allclose(audio.samples, music, atol=1 / 32768)
        assert audio.warning == ""

    @pytest.mark.parametrize("size", [0, 2**63 - 1, 2**64 - 1])
    def test_an_rf64_is_whole(self, music: np.ndarray, tmp_path: Path, size: int) -> None:
        data = encoded(music, "RF64")
        place = data.index(b"ds64") + 8
        (tmp_path / "x.wav").write_bytes(
            data[:place] + struct.pack("<3Q", *[size] * 3) + data[place + 24 :]
        )
        audio = load(tmp_path / "x.wav", RATE)
        np.testing.assert_allclose(audio.samples, music, atol=1 / 32768)
        assert audio.warning == ""

    @pytest.mark.parametrize("size", [0, 0x7FFFF000, MOST])
    def test_an_au_is_whole(self, music: np.ndarray, tmp_path: Path, size: int) -> None:
        data = encoded(music, "AU", subtype="PCM_16")
        (tmp_path / "x.au").write_bytes(data[:8] + struct.pack(">I", size) + data[12:])
        audio = load(tmp_path / "x.au", RATE)
        np.testing.assert_allclose(audio.samples, music, atol=1 / 32768)
        assert audio.warning == ""

    @pytest.mark.parametrize("size", [0, 8, 0x7FFFF000, MOST])
    def test_an_aiff_is_whole(self, music: np.ndarray, tmp_path: Path, size: int) -> None:
        data = bytearray(encoded(music, "AIFF"))
        data[4:8] = struct.pack(">I", size)
        for name, skipped in ((b"COMM", 10), (b"SSND", 4)):
            place = data.index(name) + skipped
            data[place : place + 4] = struct.pack(">I", size)
        (tmp_path / "x.aiff").write_bytes(data)
        audio = load(tmp_path / "x.aiff", RATE)
        np.testing.assert_allclose(audio.samples, music, atol=1 / 32768)
        assert audio.warning == ""

    def test_one_that_is_cut_off_is_still_reported(self, music: np.ndarray, tmp_path: Path) -> None:
        """A size that somebody has counted, of more than a gigabyte."""
        data = encoded(music, "WAV")
        (tmp_path / "x.wav").write_bytes(data[:40] + struct.pack("<I", 1_500_000_000) + data[44:])
        assert load(tmp_path / "x.wav", RATE).warning.startswith(
            f"ends after {SECONDS:.1f} s of the 34013.6 s"
        )

    def test_one_without_samples_stays_empty(self, music: np.ndarray, tmp_path: Path) -> None:
        data = encoded(music[:0], "WAV") + b"LIST\x0e\0\0\0INFOISFT\x02\0\0\0x\0"
        (tmp_path / "x.wav").write_bytes(data)
        with pytest.raises(AudioError, match=r"^no audio in it$"):
            load(tmp_path / "x.wav", RATE)

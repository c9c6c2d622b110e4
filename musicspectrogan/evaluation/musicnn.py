"""Features of musicnn, a network that was trained to tag real music.

J. Pons, X. Serra, musicnn: pre-trained convolutional neural networks for music audio tagging,
arXiv:1909.06654. It hears three seconds, which is one image, and knows nothing of our images,
datasets and models. The weights are read from the package musicnn, which need only lie there: it is
not imported, and TensorFlow is not needed. Images become sound for it as `invert` makes it, without
a vocoder, real ones and samples alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import resample_poly
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F

from musicspectrogan.audio.inversion import invert
from musicspectrogan.audio.spectrogram import SpectrogramConfig, mel_filterbank
from musicspectrogan.errors import UserError
from musicspectrogan.evaluation.features import DIMENSIONS, Embedding
from musicspectrogan.evaluation.samples import Pixels
from musicspectrogan.evaluation.tfcheckpoint import read_checkpoint
from musicspectrogan.progress import progress_bar

INSTALL = "pip install --no-deps musicnn==0.1.0"
# The weights trained on MagnaTagATune, and the digests of their files in version 0.1.0: the figures
# of two people mean the same only with the same weights.
MODEL = "MTT_musicnn"
DIGESTS = {
    ".index": "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
    ".data-00000-of-00001": "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
}

# What the network hears: mel power as librosa computes it, with these settings.
HEARD = SpectrogramConfig(
    sample_rate=16000, n_fft=512, hop_length=256, n_mels=96, n_frames=187, f_min=0.0, f_max=8000.0
)
# Its logarithm is log10(1 + COMPRESSION * power).
COMPRESSION = 10000.0
# Level of white, in dB as the `reference_db` of a track: the network hears loudness, which images
# do not hold. This is the median of GTZAN.
LOUDEST_DB = 28.0

# Epsilon of the original's batch normalisation.
EPSILON = 1e-3
# Convolutions of the front end, which all hear the sound, and of the middle, one after the other.
FRONT, MIDDLE = 5, 3

# On a CPU few, because what a layer computes must fit its cache: 8 take half as long again.
IMAGES_PER_BATCH, IMAGES_PER_BATCH_ON_CPU = 64, 2

Variables = Mapping[str, npt.NDArray[np.float32]]


def read_weights() -> Variables:
    """Read the variables of the network from the installed package, without importing it.

    Raises:
        UserError: it is not installed, in another version, or damaged.
    """
    try:
        folder = Path(str(distribution("musicnn").locate_file(f"musicnn/{MODEL}")))
    except PackageNotFoundError:
        raise UserError(
            f"--features musicnn needs the weights of that package, 29 MB: {INSTALL} "
            "(without --no-deps it would bring TensorFlow, which is not needed)"
        ) from None
    contents = []
    for name, digest in DIGESTS.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise _broken(folder / name, f"cannot be read ({error.strerror})") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise _broken(folder / name, "is not the file of version 0.1.0, or is damaged")
        contents.append(content)
    return read_checkpoint(*contents)


def _broken(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}; install it again: {INSTALL} --force-reinstall")


class _Normalisation(nn.Module):
    """Batch normalisation (…, D) by the statistics of training."""

    scale: Tensor
    shift: Tensor

    def __init__(self, variables: Variables, number: int) -> None:
        super().__init__()
        gamma, beta, mean, variance = (
            torch.tensor(variables[f"{_numbered('batch_normalization', number)}/{name}"])
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma * torch.rsqrt(variance + EPSILON)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", beta - mean * scale)

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale + self.shift


class _Convolution(nn.Module):
    """Convolve frames (B, T, bands), with ReLU and normalisation: (B, T, filters).

    Over the bands a filter gives its maximum. It is taken first, because ReLU and normalisation
    are monotonous: where the latter falls, the maximum is that of the negative filter.
    """

    weight: Tensor
    bias: Tensor
    sign: Tensor

    def __init__(self, variables: Variables, number: int) -> None:
        super().__init__()
        kernel, bias = (
            torch.tensor(variables[f"{_numbered('conv2d', number)}/{name}"])
            for name in ("kernel", "bias")
        )
        self.normalise = _Normalisation(variables, number + 1)
        sign = torch.where(self.normalise.scale < 0, -1.0, 1.0)
        self.register_buffer("weight", (kernel * sign).permute(3, 2, 0, 1).contiguous())
        self.register_buffer("bias", bias * sign)
        self.register_buffer("sign", sign)

    def forward(self, frames: Tensor) -> Tensor:
        length = self.weight.shape[2]
        padded = F.pad(frames.unsqueeze(1), (0, 0, (length - 1) // 2, length // 2))
        largest = F.conv2d(padded, self.weight, self.bias).amax(dim=3).transpose(1, 2)
        normalised: Tensor = self.normalise(F.relu(largest * self.sign))
        return normalised


class Musicnn(nn.Module):
    """The network, with the variables of a checkpoint."""

    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor

    def __init__(self, variables: Variables) -> None:
        super().__init__()
        layers = [_Convolution(variables, number) for number in range(FRONT + MIDDLE)]
        self.front, self.middle = nn.ModuleList(layers[:FRONT]), nn.ModuleList(layers[FRONT:])
        self.heard, self.pooled, self.normalise = (
            _Normalisation(variables, number) for number in (0, len(layers) + 1, len(layers) + 2)
        )
        for name, number in (("hidden", 0), ("output", 1)):
            dense = _numbered("dense", number)
            self.register_buffer(name, torch.tensor(variables[f"{dense}/kernel"]))
            self.register_buffer(f"{name}_bias", torch.tensor(variables[f"{dense}/bias"]))
        self.eval()

    def pool(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and mean over time of all layers, (B, 753) each, of sound (B, T, 96)."""
        frames = self.heard(heard)
        front = torch.cat([layer(frames) for layer in self.front], dim=2)
        maps = [front, self.middle[0](front)]
        for layer in self.middle[1:]:
            maps.append(maps[-1] + layer(maps[-1]))
        every = torch.cat(maps, dim=2)
        return every.amax(dim=1), every.mean(dim=1)

    def penultimate(self, heard: Tensor) -> Tensor:
        """The layer before the tags, (B, 200), of sound (B, T, 96)."""
        pooled = self.pooled(torch.stack(self.pool(heard), dim=2).flatten(1))
        hidden: Tensor = self.normalise(F.relu(pooled @ self.hidden + self.hidden_bias))
        return hidden

    def forward(self, heard: Tensor) -> Tensor:
        """Probabilities of the tags, (B, 50), of sound (B, T, 96)."""
        return (self.penultimate(heard) @ self.output + self.output_bias).sigmoid()


def _numbered(name: str, number: int) -> str:
    """Name of a layer in TensorFlow, which does not number the first."""
    return f"{name}_{number}" if number else name


def hear(waves: Tensor) -> Tensor:
    """What the network hears, (B, T, 96), of mono samples (B, n) at 16 kHz."""
    window = torch.hann_window(HEARD.n_fft, device=waves.device)
    spectra = torch.stft(
        waves,
        HEARD.n_fft,
        HEARD.hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    filters = torch.from_numpy(mel_filterbank(HEARD).copy()).to(waves)
    power = filters @ spectra.abs().square()
    return torch.log10(1.0 + COMPRESSION * power).transpose(1, 2)


def sound_of(pixels: Pixels, config: SpectrogramConfig, device: torch.device) -> Tensor:
    """Samples (N, n) at 16 kHz of images uint8 (N, H, W), all with the same level of white."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    waves = invert(images, config) * 10.0 ** (LOUDEST_DB / 20.0)
    resampled = resample_poly(waves.cpu().numpy(), HEARD.sample_rate, config.sample_rate, axis=1)
    return torch.from_numpy(resampled).to(device)


class Listener:
    """Features of images: those of the network that hears their sound.

    It remembers them, because an evaluation asks for those of an image more than once.

    Args:
        config: settings of the images.

    Raises:
        UserError: the package with the weights is not installed, or damaged.
    """

    def __init__(self, config: SpectrogramConfig, device: torch.device) -> None:
        self._network = Musicnn(read_weights()).to(device)
        self._config, self._device = config, device
        self._known: dict[bytes, npt.NDArray[np.float32]] = {}

    def __call__(self, pixels: Pixels, what: str = "images") -> npt.NDArray[np.float32]:
        """Features (N, 200) of images uint8 (N, H, W).

        Args:
            what: the images are, for the progress bar.
        """
        keys = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            features = self._listen(pixels[list(new.values())], f"Listening to {what}")
            self._known.update(zip(new, features, strict=True))
        return np.stack([self._known[key] for key in keys])

    @torch.no_grad()
    def _listen(self, pixels: Pixels, description: str) -> npt.NDArray[np.float32]:
        size = IMAGES_PER_BATCH_ON_CPU if self._device.type == "cpu" else IMAGES_PER_BATCH
        features = []
        with progress_bar(total=len(pixels), description=description, unit="image") as bar:
            for start in range(0, len(pixels), size):
                batch = pixels[start : start + size]
                heard = hear(sound_of(batch, self._config, self._device))
                features.append(self._network.penultimate(heard).cpu().numpy())
                bar.update(len(batch))
        return np.concatenate(features)


def fit_musicnn(listener: Listener, pixels: Pixels) -> Embedding:
    """Fit the principal components of the network's features on images uint8 (N, H, W).

    docs/evaluation.md says why this layer, and what it ranks.
    """
    known = listener(pixels)
    pca = PCA(min(DIMENSIONS, len(known) - 1), random_state=0).fit(known)

    def embed(images: Pixels) -> npt.NDArray[np.floating]:
        return np.asarray(pca.transform(listener(images)))

    return embed

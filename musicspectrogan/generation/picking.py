"""Keep of several samples the one that the discriminator finds most real: `generate --pick`.

After S. Azadi et al., Discriminator rejection sampling, ICLR 2019, arXiv:1810.06758: what the
discriminator has learned in training is used once more, to sort out what the generator does badly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicspectrogan.device import repeatable
from musicspectrogan.errors import UserError
from musicspectrogan.generation.model import Model
from musicspectrogan.generation.sampler import BATCH, LatentSpec, seed_spec
from musicspectrogan.generation.selection import Row
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.tensors import as_images


class Picker:
    """Chooses the seeds of samples by the discriminator of the model's checkpoint.

    Raises:
        UserError: the checkpoint has none.
    """

    def __init__(self, model: Model) -> None:
        if model.checkpoint.is_exported:
            raise UserError(
                "--pick: the discriminator chooses, and this model was exported without it; name "
                "its run, or a checkpoint of it, as --checkpoint, or omit --pick"
            )
        self._model = model
        self._discriminator = model.checkpoint.build_discriminator().to(model.device)

    def choose(self, row: Row, config: GenerateConfig) -> Iterator[LatentSpec]:
        """The seeds to keep of a row: the best of the first `pick` seeds, of the next, and so on.

        Lazily, with as many candidates at a time as fit a batch, or those of one piece.
        """
        assert config.pick is not None
        groups = [
            [seed_spec(number * config.pick + k) for k in range(config.pick)]
            for number in range(config.n_samples)
        ]
        at_once = 1 if config.length else max(1, BATCH // config.pick)
        for first in range(0, len(groups), at_once):
            some = groups[first : first + at_once]
            candidates = [spec for group in some for spec in group]
            images, _ = self._model.draw(candidates, row.start, row.end, config)
            # Apart from other groups: with `minibatch_deviation` logits depend on the batch.
            for group, drawn in zip(some, np.split(images, len(some)), strict=True):
                yield group[self.scores(drawn, row, loops=config.loop).argmax()]

    @torch.no_grad()
    @repeatable()
    def scores(
        self, images: npt.NDArray[np.uint8], row: Row, *, loops: bool
    ) -> npt.NDArray[np.float32]:
        """How real each of the images (B, n_mels, T) is; only differences have a meaning.

        The mean of the logits over windows of a piece, half a window apart, and of both ends of a
        loop joined. For a mixture, the mean over its genres by weight; in a morph the weights
        change along the piece.
        """
        sampler, size = self._model.sampler, self._model.checkpoint.model.image_size
        start, end = sampler.mixture(row.start), sampler.mixture(row.end)
        length = images.shape[2]
        firsts = list(range(0, length if loops else max(1, length - size + 1), size // 2))
        if not loops and firsts[-1] + size < length:
            firsts.append(length - size)
        total = np.zeros(len(images), dtype=np.float32)
        for first in firsts:
            # Beyond the end, a piece that is shorter than a window is repeated.
            window = images.take(range(first, first + size), axis=2, mode="wrap")
            position = (first + size / 2) / length
            if loops:  # back to the start, as in `piece`
                position = 1.0 - abs(2.0 * position % 2.0 - 1.0)
            mixture = start + min(position, 1.0) * (end - start)
            total += self._logits(window, mixture)
        return total / np.float32(len(firsts))

    def _logits(self, windows: npt.NDArray[np.uint8], mixture: Tensor) -> npt.NDArray[np.float32]:
        """Logits (B,) of windows (B, H, W), averaged over the genres of a mixture by weight."""
        shown = as_images(torch.from_numpy(windows).to(self._model.device))[:, None]
        # What judges pairs sees one window twice; its verdict and that on the rhythm are not used.
        shown = shown.expand(-1, self._model.checkpoint.model.n_windows, -1, -1)
        total = torch.zeros(len(windows))
        for genre in mixture.nonzero().flatten().tolist():
            labels = torch.full((len(windows),), genre, device=self._model.device)
            logits = self._discriminator(shown, labels)[: len(windows)]
            total += float(mixture[genre]) * logits.float().cpu()
        return total.numpy()

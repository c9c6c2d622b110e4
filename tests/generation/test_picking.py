"""generate --pick: what is kept, that its seeds repeat it, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from musicspectrogan import models
from musicspectrogan.generation.model import Model
from musicspectrogan.generation.picking import Picker
from musicspectrogan.generation.selection import Row, select_rows
from musicspectrogan.generation.settings import GenerateConfig
from musicspectrogan.training.run_checkpoints import load_checkpoint

OLD_RUNS = Path(__file__).parents[1] / "old" / "runs"
GENERATE = ("-m", "musicspectrogan", "generate", "--device", "cpu", "--checkpoint")


def test_the_most_real_of_each_four_seeds_is_kept_and_its_seed_repeats_it(
    trained, command, tmp_path
):
    flags = ("--genre", "jazz", "--vocoder", "none")
    line = (*GENERATE, trained, *flags)
    told = command(*line, "--count", 3, "--pick", 4, "--output", "picked", cwd=tmp_path)

    seeds = re.search(r"Picked of jazz: --seeds (\S+)", told.stderr)[1]
    checkpoint = load_checkpoint(trained)
    _, discriminator = models.build(checkpoint.gan, checkpoint.model)
    discriminator.load_state_dict(checkpoint.discriminator)
    images = Model(checkpoint).images("jazz", range(12))
    shown = torch.from_numpy(images).float()[:, None] / 127.5 - 1
    labels = torch.full((12,), checkpoint.genres.index("jazz"))
    with torch.no_grad():
        best = discriminator.eval()(shown, labels).reshape(3, 4).argmax(dim=1)
    assert seeds == ",".join(str(4 * group + int(k)) for group, k in enumerate(best))

    command(*line, "--seeds", seeds, "--output", "again", cwd=tmp_path)
    made = sorted((tmp_path / "again").glob("jazz_*"))
    assert len(made) == 2 * 3
    for path in made:
        assert path.read_bytes() == (tmp_path / "picked" / path.name).read_bytes()


def test_what_is_kept_does_not_depend_on_how_many_are_wanted():
    model = Model(load_checkpoint(OLD_RUNS / "anylength"))
    assert model.checkpoint.model.minibatch_deviation  # logits depend on the batch
    row = select_rows("bass", None, model.genres, conditional=True)[0]
    few, more = (
        list(Picker(model).choose(row, GenerateConfig(count=count, pick=2))) for count in (4, 5)
    )
    assert more[:4] == few and len(more) == 5


def test_pieces_are_picked_too(trained, command, tmp_path):
    line = (*GENERATE, trained, "--genre", "jazz", "--seconds", 5, "--count", 1, "--pick", 2)
    told = command(*line, "--loop", "--output", "out", cwd=tmp_path)
    seed = int(re.search(r"Picked of jazz: --seeds ([01])\n", told.stderr)[1])
    assert [path.name for path in (tmp_path / "out").glob("*.wav")] == [
        f"jazz_seed000{seed}_5s_loop.wav"
    ]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("demo", "--pick", 4), "--pick: the discriminator chooses, and this model was exported"),
        (("demo", "--pick", 1), "--pick: 1 is not allowed; it must be from 2 to 64"),
        (("demo", "--pick", 4, "--seeds", "0-7"), "--pick with --seeds: --pick chooses the seeds"),
        (("demo", "--pick", 4, "--vary", 3), "--pick with --vary: --vary names its seed"),
        (("demo", "--pick", 4, "--between", "3:7"), "--pick with --between: --between names"),
    ],
)
def test_what_cannot_be_picked_is_refused(command, tmp_path, flags, told):
    refused = command(*GENERATE, *flags, "--output", "out", cwd=tmp_path, status=2)
    assert told in refused.stderr and not (tmp_path / "out").exists()


class TestScores:
    """With a discriminator that returns the brightness of genre 0, and half of that of others."""

    @pytest.fixture
    def picker(self, trained):
        picker = Picker(Model(load_checkpoint(trained)))
        picker._discriminator = lambda images, labels: (
            images.mean(dim=(1, 2, 3)) / (1 + (labels > 0).float())
        )
        return picker

    @pytest.fixture
    def rows(self, picker):
        genres = picker._model.genres
        return [select_rows(name, None, genres, conditional=True)[0] for name in genres[:2]]

    def test_all_windows_of_a_piece_count(self, picker, rows):
        piece = np.zeros((2, 64, 160), dtype=np.uint8)
        piece[0, :, 64:] = 255
        piece[1, :, :64] = 255
        # Windows begin at 0, 32, 64 and 96: -1, 0, 1, 1; and the other way round.
        assert picker.scores(piece, rows[0], loops=False) == pytest.approx([0.25, -0.25])
        # In a loop also at 128: half of it is past the end, so of the start.
        assert picker.scores(piece, rows[0], loops=True) == pytest.approx([0.2, -0.2])

    def test_a_rest_and_a_piece_shorter_than_a_window_count(self, picker, rows):
        piece = np.zeros((1, 64, 74), dtype=np.uint8)
        piece[:, :, 64:] = 255
        ten = 2 * 10 / 64 - 1
        assert picker.scores(piece, rows[0], loops=False) == pytest.approx([(-1 + ten) / 2])
        short = np.full((1, 64, 20), 255, dtype=np.uint8)
        assert picker.scores(short, rows[0], loops=False) == pytest.approx([1])

    def test_a_mixture_and_a_morph_are_judged_by_their_genres(self, picker, rows):
        white = np.full((1, 64, 64), 255, dtype=np.uint8)
        first, second = rows
        assert picker.scores(white, second, loops=False) == pytest.approx([0.5])
        mixed = {**dict.fromkeys(first.start, 0.8), **dict.fromkeys(second.start, 0.2)}
        assert picker.scores(white, Row("m", mixed, mixed), loops=False) == pytest.approx([0.9])
        morph = Row("morph", first.start, second.start)
        assert picker.scores(white, morph, loops=False) == pytest.approx([0.75])

"""Damaged and made-up PNGs: each is read, or left out and named."""

from __future__ import annotations

from cases import case, special_pngs
from fuzzing import try_cases

# Those that anybody may have among their images.
READ = {
    "as large as may be",
    "long",
    "high",
    "16 bits",
    "16 bits, colours",
    "animated",
    "interlaced",
}


def test_damaged_pngs_are_read_or_left_out(torture, tried):
    count = 1000 if torture else 30
    faults, ended = try_cases("png", 0, count)
    assert not faults, "\n".join(faults)
    assert len(ended) == count
    tried("png files", count)


def test_bombs_and_rarities_are_read_or_left_out(tried):
    """Within the limits on time and memory of any other case."""
    names = list(special_pngs())
    faults, ended = try_cases("rare png", 0, len(names))
    assert not faults, "\n".join(faults)
    for number, name in enumerate(names):
        if name in READ:
            assert ended[number].endswith(", in a dataset"), name
        if "bomb" in name:
            assert ended[number] == "refused, left out", name
    tried("bombs and rarities", len(names))


def test_damaged_pngs_through_the_commands(command, tmp_path, torture, tried):
    """Training leaves out what it cannot read, and says so; invert names the one that it will not take."""
    genre = tmp_path / "images" / "rock"
    genre.mkdir(parents=True)
    count = 60 if torture else 10
    for number in range(count):
        (genre / f"{number}.png").write_bytes(case("png", number))
    for name, contents in special_pngs().items():
        (genre / f"{name}.png").write_bytes(contents)
    told = command("run.py", "--dataset", "images", "--dry-run", "--device", "cpu", cwd=tmp_path)
    assert "images cannot be read and are left out" in told.stderr
    command("-m", "musicspectrogan", "invert", "images", cwd=tmp_path, status=2)
    tried("damaged images through the commands", count + len(special_pngs()))

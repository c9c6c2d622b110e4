"""Learning a vocoder from the music of a dataset."""

"""Train a GAN on mel-spectrogram PNGs: `python run.py --help`."""

from musicspectrogan.cli import main

if __name__ == "__main__":
    main("train")

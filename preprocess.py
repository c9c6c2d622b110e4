"""Turn a folder of music into mel-spectrogram PNGs: `python preprocess.py --help`."""

from musicspectrogan.cli import main

if __name__ == "__main__":
    main("preprocess")

"""MusicSpectroGAN: train a GAN on the mel-spectrograms of your music."""

__version__ = "0.1.0"

"""Sound and its spectrogram: loading and saving files, encoding clips as grey images."""

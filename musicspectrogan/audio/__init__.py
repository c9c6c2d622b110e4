"""Sound and its spectrogram: loading and saving files, encoding clips as grey images."""

# A dataset's vocoder, beside its dataset.json. Here, because `audio.vocoder` imports torch.
VOCODER_NAME = "vocoder.pt"

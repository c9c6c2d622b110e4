"""From a checkpoint to images, sound and a web page."""

"""From a checkpoint to images, sound and a page to play."""

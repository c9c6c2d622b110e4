"""From music to training tensors: sources, preprocessing, the manifest, and reading images back."""

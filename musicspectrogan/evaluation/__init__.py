"""Checkpoint + dataset -> how good it is: figures with their spread, beside what real music scores."""

"""Checkpoint + dataset -> figures with confidence intervals, each with the same of real music."""

"""Run a command in float64: `python double_precision.py train --config demo …`.

In float32, rounding errors grow to some percent of the losses in fifty steps of a GAN, and they
differ between processors and numbers of threads. In float64 the losses agree to six digits.
"""

import torch

from musicspectrogan.cli import main

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # what the package converts to float32

if __name__ == "__main__":
    main()

"""MusicSpectroGAN: train a GAN on the mel-spectrograms of your music.

    import musicspectrogan as ms

    model = ms.load("demo")
    images = model.images(genre="drums", seeds=[0, 1])  # uint8 (2, 64, 64)
    sounds = model.sounds(genre="drums", seeds=[0], seconds=10)  # float32 (1, 220500)

Importing takes no torch: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from musicspectrogan.api import evaluate as evaluate
    from musicspectrogan.api import export_model as export_model
    from musicspectrogan.api import generate as generate
    from musicspectrogan.api import load as load
    from musicspectrogan.api import preprocess as preprocess
    from musicspectrogan.api import recipe as recipe
    from musicspectrogan.api import train as train
    from musicspectrogan.data.settings import PreprocessConfig as PreprocessConfig
    from musicspectrogan.data.sources import Selection as Selection
    from musicspectrogan.errors import Interrupted as Interrupted
    from musicspectrogan.errors import UserError as UserError
    from musicspectrogan.evaluation.settings import EvaluateConfig as EvaluateConfig
    from musicspectrogan.export.settings import ExportConfig as ExportConfig
    from musicspectrogan.generation.settings import GenerateConfig as GenerateConfig
    from musicspectrogan.generation.settings import SoundConfig as SoundConfig
    from musicspectrogan.training.settings import TrainingConfig as TrainingConfig

# Where each public name is defined.
_HOMES = {
    "load": "api",
    "preprocess": "api",
    "recipe": "api",
    "train": "api",
    "generate": "api",
    "evaluate": "api",
    "export_model": "api",
    "PreprocessConfig": "data.settings",
    "TrainingConfig": "training.settings",
    "GenerateConfig": "generation.settings",
    "EvaluateConfig": "evaluation.settings",
    "ExportConfig": "export.settings",
    "SoundConfig": "generation.settings",
    "Selection": "data.sources",
    "UserError": "errors",
    "Interrupted": "errors",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (the names of a dict)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

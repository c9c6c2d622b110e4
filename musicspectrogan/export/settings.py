"""Settings of the command `export`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from musicspectrogan.config import check_within, read_fields
from musicspectrogan.errors import SettingError, UserError, check_choice, did_you_mean

FORMATS = ("folder", "html", "onnx")
# What Hugging Face calls them; a card names another one beside `license: other`.
# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = tuple(
    """unknown other apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m
    bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause
    bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl
    osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr""".split()
)
UNKNOWN = "unknown"
SOUNDS, MOST_SOUNDS = 4, 100
PAGES = (".html", ".htm")


def check_license(name: str) -> None:
    """Raise SettingError for what is no name of a license; it may be one that nobody has heard of.

    Cards have it as it is.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{,99}", name):
        raise SettingError(
            "license",
            f"{name[:80]!r} is not allowed; write a short name in lower case, such as "
            f"mit{did_you_mean(name.lower(), LICENSES)}",
        )


@dataclass(frozen=True)
class ExportConfig:
    """Export a trained generator, to share it or to play it elsewhere."""

    checkpoint: Path | None = None
    """Run directory, checkpoint file, exported folder or zip, `latest` for the newest run, or
    `demo` for the model of this package."""
    dataset: Path | None = None
    """The dataset that the checkpoint was trained on, if it was moved: for the attributions of its
    music, and its vocoder. None for where it was."""
    format: str = "folder"
    """folder (weights, settings and a model card), html (an instrument in one file) or onnx."""
    output: Path | None = None
    """Folder to write, or HTML file; None for one named after the model in the working
    directory."""
    half: bool = False
    """Store weights in half precision: half the size, and nearly the same sounds. What is exported
    from half precision stays so. Folders only."""
    license: str | None = None
    """License of the model for its card, as Hugging Face calls it, such as mit or cc-by-4.0; or
    the short name of another. None for that of an exported model, or
    else unknown. Folders only."""
    sounds: int | None = None
    """Sounds of ten seconds to add to a folder; None for 4."""
    overwrite: bool = False
    """Replace an earlier export."""

    @read_fields
    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        check_license(UNKNOWN if self.license is None else self.license)
        check_within(self, sounds=(0, MOST_SOUNDS))
        of_folders = {"half": self.half or None, "license": self.license, "sounds": self.sounds}
        for name, value in of_folders.items():
            if value is not None and self.format != "folder":
                raise UserError(f"--{name} has no effect with --format {self.format}; omit it")
        if self.format == "html" and self.output and self.output.suffix.lower() not in PAGES:
            raise SettingError("output", f"{self.output}: give the page a name that ends in .html")

"""The part of an evaluation's page that is about pieces: how their windows hang together."""

from __future__ import annotations

from collections.abc import Sequence

from musicspectrogan.evaluation import pictures
from musicspectrogan.evaluation.coherence import LAGS, coherence_name
from musicspectrogan.evaluation.evidence import Strip
from musicspectrogan.evaluation.markup import charts, picture, section, text
from musicspectrogan.evaluation.report import OF_PIECES, Report, keys_of


def structure_section(
    names: Sequence[str], reports: Sequence[Report], strips: Sequence[Strip] = ()
) -> str:
    """Coherence over lag, and some pieces beside real tracks; nothing where single images were judged.

    Args:
        names: of the reports, in their order.
    """
    kinds = dict.fromkeys(
        features for name, features in keys_of(reports) if name in OF_PIECES and features
    )
    return section(
        "How pieces hang together",
        "Coherence: how unlike two windows of one piece are, by how far apart they are, over how unlike "
        "windows of different pieces of its genre are. Real music is the aim: above it a piece loses its "
        "thread, and at 1 it has forgotten what it was; below it, it is monotonous.",
        charts(*(_chart(kind, names, reports) for kind in kinds)) if kinds else "",
        *map(_strip, strips),
    )


def _chart(kind: str, names: Sequence[str], reports: Sequence[Report]) -> str:
    rows = {lag: [report.find(coherence_name(lag), kind) for report in reports] for lag in LAGS}
    rows = {lag: figures for lag, figures in rows.items() if any(figures)}
    real = [next(figure.real for figure in figures if figure) for figures in rows.values()]
    of_runs = zip(
        *([figure and figure.value for figure in figures] for figures in rows.values()), strict=True
    )
    drawn = pictures.draw_coherence(list(rows), real, names, list(of_runs))
    return picture(drawn, f"Chart: coherence by {kind} features", f"{kind} features")


def _strip(strip: Strip) -> str:
    shown = "".join(
        picture(
            pictures.draw_strip(pixels),
            f"Spectrogram: {', '.join(filter(None, (strip.genre, what)))}",
            what,
        )
        for what, pixels in (("real track", strip.real), ("generated piece", strip.fake))
    )
    heading = f"<h3>{text(strip.genre)}</h3>" if strip.genre else ""
    return f'{heading}<div class="sheets">{shown}</div>'

"""Licences of music: one short name for each kind, however a title, a tag or a user spells it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from musicspectrogan.errors import UserError

KINDS = ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd", "cc0", "public-domain")

_ELEMENTS = {
    "by": r"by|attribution",
    "nc": r"nc|non ?commercial",
    "sa": r"sa|share ?alike",
    "nd": r"nd|no ?deriv(?:s|atives?(?: works?)?)?",
}
_COMPOSED = re.compile(rf"(?:(?:{'|'.join(_ELEMENTS.values())})(?: |$))+")
_ZERO = re.compile(r"(?:(?:cc0|zero) ?)+(?:public domain(?: dedication)?)?")
_PUBLIC_DOMAIN = re.compile(r"pdm?|public domain(?: mark| dedication)?")
_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/?\S*"
)
_OF_ADDRESS = {"zero": "cc0", "mark": "public-domain", "publicdomain": "public-domain"}
# Words that change nothing: what else there is may be a condition.
_NAMES = "creative commons cc license licence version v generic unported international universal igo".split()
_PLACES = """argentina australia austria azerbaijan belgium brasil brazil bulgaria canada chile china mainland
    colombia costa rica croatia czech republic denmark deutschland dutch ecuador egypt england españa estonia
    finland france georgia germany greece guatemala hong kong hungary india ireland israel italia italy japan
    korea luxembourg macedonia malaysia malta mexico méxico netherlands norway new zealand peru philippines
    poland portugal puerto rico romania scotland serbia singapore slovenia south africa spain sweden
    switzerland taiwan thailand uganda uk united kingdom ukraine us usa united states venezuela vietnam wales
    """.split()
_NO_CONDITIONS = frozenset([*_NAMES, *_PLACES])


def kind_of(licence: str) -> str:
    """`by-nc-sa` for "Attribution-Noncommercial-Share Alike 3.0 United States", `cc0`, `public-domain`.

    Versions and jurisdictions make no kinds of their own. Any other text is its own kind, in lower case with
    hyphens: what might set a further condition is never taken for less. Empty where nothing is stated.
    """
    text = licence.strip().casefold()
    if address := _ADDRESS.fullmatch(text):
        text = _OF_ADDRESS.get(address[1], address[1])
    words = (
        " ".join(re.findall(r"[^\W_]+", text))
        .replace("cc 0", "cc0")
        .replace("aka music sharing", "")
    )
    core = " ".join(
        word for word in words.split() if not word.isdigit() and word not in _NO_CONDITIONS
    )
    if _ZERO.fullmatch(core):
        return "cc0"
    if _PUBLIC_DOMAIN.fullmatch(core):
        return "public-domain"
    if _COMPOSED.fullmatch(core):
        found = [name for name, word in _ELEMENTS.items() if re.search(rf"\b(?:{word})\b", core)]
        if (kind := "-".join(found)) in KINDS:
            return kind
    return words.replace(" ", "-")


def kinds_asked_for(text: str) -> tuple[str, ...]:
    """The kinds in the value of `--license`, which are separated by commas; sorted, each once.

    Raises:
        UserError: there is none.
    """
    kinds = {kind_of(part) for part in text.split(",")} - {""}
    if not kinds:
        raise UserError(
            f"--license: no licence is named; give one or several of {', '.join(KINDS)}"
        )
    return tuple(sorted(kinds))


def listed(counts: Iterable[tuple[str, int]], most: int = 20) -> str:
    """Kinds and how many tracks have them, as a text: `by-nc-sa (12), by (3), not stated (1)`."""
    shown = [f"{kind or 'not stated'} ({count:,})" for kind, count in counts]
    return ", ".join(shown[:most]) + (
        f" and {len(shown) - most} others" if len(shown) > most else ""
    )

"""What licences amount to, in the spellings of the Free Music Archive and of those who ask for them."""

from __future__ import annotations

import pytest

from musicspectrogan.data.licences import KINDS, kind_of, kinds_asked_for
from musicspectrogan.errors import UserError


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("Attribution", "by"),
        ("Creative Commons Attribution", "by"),
        ("Attribution 3.0 Unported License", "by"),
        ("Attribution 4.0 International (CC BY 4.0)", "by"),
        ("Attribution-ShareAlike 3.0 International", "by-sa"),
        ("Attribution-Share Alike 2.5 España", "by-sa"),
        ("Attribution-NoDerivs 2.0 France", "by-nd"),
        ("Attribution-NonCommercial 2.0 UK: England & Wales", "by-nc"),
        ("Attribution-NonCommercial-ShareAlike 3.0 International", "by-nc-sa"),
        ("Attribution-Noncommercial-Share Alike 3.0 United States", "by-nc-sa"),
        (
            "Attribution-NonCommercial-NoDerivatives (aka Music Sharing) 3.0 International",
            "by-nc-nd",
        ),
        ("Attribution-Noncommercial-No Derivative Works 3.0 United States", "by-nc-nd"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/us/", "by-nc-sa"),
        ("CC0 1.0 Universal", "cc0"),
        ("Creative Commons Zero (CC0)", "cc0"),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "cc0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0"),
        ("Public Domain Mark 1.0", "public-domain"),
        ("Public Domain", "public-domain"),
        ("CC BY 4.0", "by"),
        ("cc_by_nc", "by-nc"),
        ("BY-SA-NC", "by-nc-sa"),
        ("", ""),
    ],
)
def test_spellings_of_one_kind(licence: str, kind: str) -> None:
    assert kind_of(licence) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_its_own(kind: str) -> None:
    assert kind_of(kind) == kind_of(f"CC-{kind.upper()}") == kind


@pytest.mark.parametrize(
    "licence",
    [
        "FMA-Limited: Download Only",
        "Attribution 3.0, non-commercial use only",
        "Attribution 3.0 Personal Use",
        "Attribution (no remixes)",
        "Attribution-Sampling",
        "Not Public Domain",
        "Sampling Plus 1.0",
        "All Rights Reserved",
        "Creative Commons",
        "by-sn",
    ],
)
def test_what_may_set_another_condition_is_a_kind_of_its_own(licence: str) -> None:
    assert kind_of(licence) not in KINDS
    assert kind_of(kind_of(licence)) == kind_of(licence) != ""


def test_several_are_asked_for_in_any_order_and_spelling() -> None:
    assert kinds_asked_for("CC BY, cc0,by") == kinds_asked_for("zero,attribution") == ("by", "cc0")
    with pytest.raises(
        UserError, match="--license: no licence is named; give one or several of by, by-sa"
    ):
        kinds_asked_for(" , ")

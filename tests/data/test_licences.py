"""What licences amount to, in the spellings of the Free Music Archive and of those who ask for them."""

from __future__ import annotations

import pytest

from musicspectrogan.data.credits import LICENSES, normalize_license, parse_licenses
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
    assert normalize_license(licence) == kind


@pytest.mark.parametrize("kind", LICENSES)
def test_every_kind_is_its_own(kind: str) -> None:
    assert normalize_license(kind) == normalize_license(f"CC-{kind.upper()}") == kind


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
    assert normalize_license(licence) not in LICENSES
    assert normalize_license(normalize_license(licence)) == normalize_license(licence) != ""


def test_several_are_asked_for_in_any_order_and_spelling() -> None:
    assert parse_licenses("CC BY, cc0,by") == parse_licenses("zero,attribution") == ("by", "cc0")
    with pytest.raises(
        UserError, match="--license: no license is named; choose from by, by-sa"
    ):
        parse_licenses(" , ")

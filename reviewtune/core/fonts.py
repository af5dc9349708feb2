"""Fonts for pictures: matplotlib's own, and an installed one for the characters that it lacks, such as Korean.

matplotlib lists the installed fonts once and keeps the list. A font that was installed later is therefore looked for in
the system's folders and added by its path.
"""

import logging
import re
from functools import lru_cache
from pathlib import Path

LOG = logging.getLogger(__name__)
OWN_FAMILY = "DejaVu Sans"  # comes with matplotlib
PREFERRED = re.compile(r"NotoSansCJK|NotoSansKR|NanumGothic|malgun|AppleSDGothicNeo|NotoSans", re.IGNORECASE)
OTHER_STYLE = re.compile(r"bold|black|heavy|light|thin|medium|italic|oblique|mono|serif", re.IGNORECASE)
ADVICE = "install a font with them, for example Noto Sans CJK (Debian and Ubuntu: apt-get install fonts-noto-cjk)"


def families_for(text: str) -> list[str]:
    """The font families to draw a text with: matplotlib's own, and others for characters that it lacks.

    If no installed font has a character, one line is logged, once in a process.
    """
    missing = frozenset(character for character in text if not character.isspace()) - _own_characters()
    if not missing:
        return [OWN_FAMILY]
    families, rest = _installed(missing)
    if rest:
        _report_once()
    return [OWN_FAMILY, *families]


@lru_cache(maxsize=64)
def _installed(missing: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families of installed fonts that have the characters together, and the characters that none has."""
    families: list[str] = []
    for path in _files():
        if covered := missing & _characters(path):
            families.append(_add(path))
            missing -= covered
        if not missing:
            break
    return tuple(families), missing


@lru_cache(maxsize=1)
def _files() -> tuple[Path, ...]:
    """The installed fonts, those that look best with the own one first."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> tuple[bool, bool, str]:
        return not PREFERRED.search(path.name), bool(OTHER_STYLE.search(path.name)), str(path)

    return tuple(sorted(map(Path, findSystemFonts()), key=rank))


def _add(path: Path) -> str:
    """Make the font known to matplotlib, whose list may be older than the font; returns its family."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    fontManager.addfont(path)
    return FT2Font(path).family_name


def _characters(path: Path) -> frozenset[str]:
    """The characters of a font; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (RuntimeError, OSError):
        return frozenset()


@lru_cache(maxsize=1)
def _own_characters() -> frozenset[str]:
    import matplotlib

    return _characters(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@lru_cache(maxsize=1)
def _report_once() -> None:
    LOG.warning("pictures: no installed font has all characters of the labels, so boxes are drawn; %s", ADVICE)

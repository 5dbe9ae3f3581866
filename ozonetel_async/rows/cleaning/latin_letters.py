"""Letters that are Latin ones with an accent, in a ligature or of another width, and the ASCII letters for them.

Written once from Unicode's decompositions, with the letters that have none (l with stroke, eszett, thorn, dotless i).
``unicodedata`` itself is not asked: it differs from one Python release to the next, and a journal compares what became
of a row.
"""

# ruff: noqa: RUF001 - letters that look like others are what this table is about

from __future__ import annotations

from typing import Final

__all__ = ["LATIN_LETTERS"]

_BY_ASCII: Final = {
    "A": "ÀÁÂÃÄÅĀĂĄǍǞǠǺȀȂȦḀẠẢẤẦẨẪẬẮẰẲẴẶ\u212bƏȺ",
    "a": "ªàáâãäåāăąǎǟǡǻȁȃȧḁạảấầẩẫậắằẳẵặəⱥ",
    "B": "ḂḄḆℬƁɃ",
    "b": "ḃḅḇɓƀ",
    "C": "ÇĆĈĊČḈℂℭⅭ",
    "c": "çćĉċčḉⅽ",
    "D": "ĎḊḌḎḐḒⅅⅮÐĐƊƉ",
    "d": "ďḋḍḏḑḓⅆⅾðđɗɖ",
    "E": "ÈÉÊËĒĔĖĘĚȄȆȨḔḖḘḚḜẸẺẼẾỀỂỄỆℰƐ",
    "e": "èéêëēĕėęěȅȇȩḕḗḙḛḝẹẻẽếềểễệℯⅇɛ",
    "F": "Ḟℱ",
    "f": "ḟƒ",
    "G": "ĜĞĠĢǦǴḠǤ",
    "g": "ĝğġģǧǵḡℊǥ",
    "H": "ĤȞḢḤḦḨḪℋℌℍĦ",
    "h": "ĥȟḣḥḧḩḫẖℎħ",
    "I": "ÌÍÎÏĨĪĬĮİǏȈȊḬḮỈỊℐℑⅠƗ",
    "i": "ìíîïĩīĭįǐȉȋḭḯỉịℹⅈⅰıɨ",
    "J": "Ĵ",
    "j": "ĵǰⱼⅉȷ",
    "K": "ĶǨḰḲḴ\u212aƘ",
    "k": "ķǩḱḳḵĸƙ",
    "L": "ĹĻĽḶḸḺḼℒⅬŁⱢȽ",
    "l": "ĺļľḷḹḻḽℓⅼłƚ",
    "M": "ḾṀṂℳⅯ",
    "m": "ḿṁṃⅿ",
    "N": "ÑŃŅŇǸṄṆṈṊℕŊ",
    "n": "ñńņňŉǹṅṇṉṋŋ",
    "O": "ÒÓÔÕÖŌŎŐƠǑǪǬȌȎȪȬȮȰṌṎṐṒỌỎỐỒỔỖỘỚỜỞỠỢØƆ",
    "o": "ºòóôõöōŏőơǒǫǭȍȏȫȭȯȱṍṏṑṓọỏốồổỗộớờởỡợℴøɔ",
    "P": "ṔṖℙ",
    "p": "ṕṗ",
    "Q": "ℚ",
    "R": "ŔŖŘȐȒṘṚṜṞℛℜℝɌ",
    "r": "ŕŗřȑȓṙṛṝṟɍ",
    "S": "ŚŜŞŠȘṠṢṤṦṨ",
    "s": "śŝşšſșṡṣṥṧṩẛ",
    "T": "ŢŤȚṪṬṮṰŦ",
    "t": "ţťțṫṭṯṱẗŧ",
    "U": "ÙÚÛÜŨŪŬŮŰŲƯǓǕǗǙǛȔȖṲṴṶṸṺỤỦỨỪỬỮỰɄ",
    "u": "ùúûüũūŭůűųưǔǖǘǚǜȕȗṳṵṷṹṻụủứừửữựʉ",
    "V": "ṼṾⱽⅤ",
    "v": "ṽṿⅴ",
    "W": "ŴẀẂẄẆẈ",
    "w": "ŵẁẃẅẇẉẘ",
    "X": "ẊẌⅩ",
    "x": "ẋẍⅹ",
    "Y": "ÝŶŸȲẎỲỴỶỸƳɎ",
    "y": "ýÿŷȳẏẙỳỵỷỹƴɏ",
    "Z": "ŹŻŽẐẒẔℤℨƵ",
    "z": "źżžẑẓẕƶ",
    "Ae": "Æ",
    "ae": "æ",
    "DZ": "ǄǱ",
    "Dz": "ǅǲ",
    "dz": "ǆǳ",
    "ff": "ﬀ",
    "fi": "ﬁ",
    "fl": "ﬂ",
    "II": "Ⅱ",
    "ii": "ⅱ",
    "IJ": "Ĳ",
    "ij": "ĳ",
    "IV": "Ⅳ",
    "iv": "ⅳ",
    "IX": "Ⅸ",
    "ix": "ⅸ",
    "LJ": "Ǉ",
    "Lj": "ǈ",
    "lj": "ǉ",
    "NJ": "Ǌ",
    "Nj": "ǋ",
    "nj": "ǌ",
    "No": "№",
    "Oe": "Œ",
    "oe": "œ",
    "SS": "ẞ",
    "ss": "ß",
    "st": "ﬅﬆ",
    "Th": "Þ",
    "th": "þ",
    "VI": "Ⅵ",
    "vi": "ⅵ",
    "XI": "Ⅺ",
    "xi": "ⅺ",
    "ffi": "ﬃ",
    "ffl": "ﬄ",
    "III": "Ⅲ",
    "iii": "ⅲ",
    "VII": "Ⅶ",
    "vii": "ⅶ",
    "XII": "Ⅻ",
    "xii": "ⅻ",
    "VIII": "Ⅷ",
    "viii": "ⅷ",
}


def _ascii(code: int) -> str:
    """A to Z, then a to z."""
    return chr((65 if code < 26 else 71) + code)


LATIN_LETTERS: Final[dict[int, str]] = {
    **{ord(letter): to for to, letters in _BY_ASCII.items() for letter in letters},
    # mathematical letters: 13 styles of 52, with holes where the letter stands elsewhere
    **{0x1D400 + i: _ascii(i % 52) for i in range(13 * 52)},
    # circled letters and digits
    **{0x24B6 + i: _ascii(i) for i in range(52)},
    **{0x2460 + i: str(i + 1) for i in range(9)},
    # raised and lowered digits
    **{0x2070 + i: str(i) for i in (0, *range(4, 10))},
    **{0x2080 + i: str(i) for i in range(10)},
    0xB2: "2",
    0xB3: "3",
    0xB9: "1",
}
"""Code point of a letter or digit to its text in ASCII, as ``str.translate`` takes it."""

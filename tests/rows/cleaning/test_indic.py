"""Indic names in Latin letters."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ozonetel_async.rows.cleaning.indic import INDIC_RUN, romanise

NAMES = {
    # the unspoken "a" of Hindi, Marathi, Gujarati and Punjabi
    "कमलेश": "kamlesh",
    "अमरनाथ": "amarnath",
    "मोहनलाल": "mohanlal",
    "ओमप्रकाश": "omprakash",
    "शिवकुमार": "shivkumar",
    "गणेश": "ganesh",
    "देशमुख": "deshmukh",
    "तेंडुलकर": "tendulkar",
    "भावना": "bhavna",
    "ਮਨਜੀਤ": "manjit",
    "ਅਮਰਜੀਤ": "amarjit",
    "કિંજલ": "kinjal",
    # the "a" that stays
    "सरस्वती": "saraswati",
    "श्रीमती": "shrimati",
    "गायत्री": "gayatri",
    "चंद्रशेखर": "chandrashekhar",
    "मिश्र": "mishra",
    "सूर्य": "surya",
    "प्रिय": "priya",
    "आदित्य": "aditya",
    "अर्चना": "archana",
    "विजया": "vijaya",
    "आनन्द": "anand",
    # nasals, pairs, dots
    "संजय": "sanjay",
    "अंबिका": "ambika",
    "शुभं": "shubham",
    "सिंह": "singh",
    "यज्ञ": "yagya",
    "अक्षय": "akshay",
    "भगवान": "bhagwan",
    "केजरीवाल": "kejriwal",
    "ईश्वर": "ishwar",
    "द्वारका": "dwarka",
    "अद्वैत": "advait",
    "फरहान": "farhan",
    "ज़ाकिर": "zakir",
    "अरोड़ा": "arora",
    "\u0915\u093c\u093e\u0926\u093f\u0930": "qadir",
    "ॐ": "om",
    "ਜੱਸੀ": "jassi",
    # the east
    "রবীন্দ্রনাথ": "rabindranath",
    "যতীন": "jatin",
    "রায়": "ray",
    "সত্যজিৎ": "satyajit",
    "আনন্দ": "ananda",
    "স্বাতী": "swati",
    "কমলা": "kamala",
    "রাজকুমার": "rajkumar",
    "\u09a6\u09c7\u09be\u09b2": "dol",
    "ଜଗନ୍ନାଥ": "jagannath",
    # the south, where every "a" is spoken
    "సత్యనారాయణ": "satyanarayana",
    "శ్రీనివాస్": "srinivas",
    "సుబ్రహ్మణ్యం": "subrahmanyam",
    "ರಾಘವೇಂದ್ರ": "raghavendra",
    "മോഹൻലാൽ": "mohanlal",
    "പ്രിയ": "priya",
    # Tamil
    "முத்து": "muthu",
    "கார்த்திக்": "karthik",
    "தங்கம்": "thangam",
    "அன்பு": "anbu",
    "வெற்றி": "vetri",
    "பிரியா": "priya",
    "மீனாட்சி": "minatchi",
    "ஞானம்": "gnanam",
    "வசந்த்": "vasanth",
    "१२": "12",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_a_name_is_written_as_its_owners_write_it(name: str, expected: str) -> None:
    assert romanise(name) == expected


def test_a_character_of_no_table_is_not_guessed_at() -> None:
    assert romanise("क\u0973") is None
    assert romanise("\u093e") is None


@settings(max_examples=1_000, deadline=None)
@example(2, [0x71, 0x02])
@example(2, [0x71, 0x71])
@given(st.integers(0, 8), st.lists(st.integers(0, 127), min_size=1, max_size=12))
def test_any_characters_of_a_block_come_out_in_ascii_or_not_at_all(block: int, offsets: list[int]) -> None:
    run = "".join([chr(0x900 + 128 * block + offset) for offset in offsets])
    assert INDIC_RUN.fullmatch(run)
    word = romanise(run)
    assert word is None or word.replace(" ", "a").isalnum() or word == ""
    assert word is None or word.isascii()

"""National numbering plans: whether a number is one of a country, and its other ways of being written.

Each plan is a row of ``PLANS``. Only countries whose national numbers have a fixed length are in it: where lengths
vary, a number without its code cannot be told from one with.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ...config import PhoneForm
from .result import Cleaned, Refused

__all__ = ["PLANS", "CountryRule", "Plan"]


class Plan(NamedTuple):
    """One country's numbering plan.

    Attributes:
        name: the country, for messages.
        code: its calling code.
        prefix: what is dialled before the code of another country.
        trunk: what is dialled before a national number inside the country; ``""`` for nothing.
        national: pattern of a whole national number, without ``trunk``.
        lengths: the lengths of its national numbers, for messages.
    """

    name: str
    code: str
    prefix: str
    trunk: str
    national: str
    lengths: str


# What is commonly known of each plan, kept as wide as its lengths and first digits allow; no numbering authority's own
# document was consulted. American area codes of the forms N11, N9X, 37X, 96X and 555 are not assigned.
PLANS: Final[dict[str, Plan]] = {
    "IN": Plan("India", "91", "00", "0", "[1-9][0-9]{9}", "10"),
    "US": Plan(
        "the United States",
        "1",
        "011",
        "",
        "(?!555|37|96|.11|.9)[2-9][0-9]{2}(?!.11)[2-9][0-9]{6}",
        "10",
    ),
    "GB": Plan("the United Kingdom", "44", "00", "0", "[1-357-9][0-9]{9}", "10"),
    # Mobile numbers have nine digits, those of the seven emirates' networks eight.
    "AE": Plan("the United Arab Emirates", "971", "00", "0", "(?:5[0-9]{8}|[2-4679][2-9][0-9]{6})", "8 or 9"),
}


class CountryRule:
    """Checks phone numbers against one country's plan, and writes them in one form.

    Args:
        plan: the country's row of ``PLANS``.
        form: how its numbers are written.

    Attributes:
        fits: pattern of the texts that the rule leaves as they are, for a check of a whole column; other texts may be
            left as they are too.
    """

    def __init__(self, plan: Plan, form: PhoneForm) -> None:
        self._plan, self._form = plan, form
        code, prefix, trunk = plan.code, plan.prefix, plan.trunk
        optional = "?" if trunk else ""
        behind = f"({trunk}{optional})"
        self._own = re.compile(
            rf"(?:(\+{code}|{prefix}{code}|{code}){behind}|({trunk}{optional}))({plan.national})"
        ).fullmatch
        self._foreign = re.compile(rf"(?:\+|{prefix})((?!{code})[1-9][0-9]{{6,14}})").fullmatch
        self._national = re.compile(plan.national).fullmatch
        lead = {"given": rf"(?:\+?{code}|{trunk})?", "international": rf"\+{code}", "digits": code, "national": ""}[
            form
        ]
        # Atomic as a whole: inside, the code may be given back where it is the beginning of a national number.
        self.fits: str = rf"(?>{lead}{plan.national}(?=\n|\Z))"

    def __call__(self, number: str) -> Cleaned | Refused:
        """The number in the rule's form, or why it is none of the country's and none of another.

        Args:
            number: digits with an optional plus in front.
        """
        if own := self._own(number):
            return self._written(number, own[1] or own[3] or "", own[4])
        if (foreign := self._foreign(number)) is None:
            return self._refused(number)
        if number[0] != "+" and self._national(foreign[1]):
            return Refused(f"{self._plan.prefix} before a national number; expected a country code behind it")
        if self._form == "given":
            return Cleaned(number, "")
        text = "+" + foreign[1]
        return Cleaned(text, "" if text == number else "country")

    def _written(self, number: str, given: str, national: str) -> Cleaned:
        code = self._plan.code
        lead = {"given": given, "international": "+" + code, "digits": code, "national": ""}[self._form]
        text = lead + national
        return Cleaned(text, "" if text == number else "country")

    def _refused(self, number: str) -> Refused:
        name, code, _, trunk, _, lengths = self._plan
        got = len(number.lstrip("+"))
        lead = f"{trunk}, {code} or +{code}" if trunk else f"{code} or +{code}"
        return Refused(
            f"no phone number of {name}: expected {lengths} digits of its numbering plan, alone or behind {lead}, "
            f"or a number of another country behind +, got {got} digits"
        )

"""Settings of cleaning: what may be repaired in the cells of a file before the strict checks see them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ..errors import ConfigurationError

__all__ = ["Cleaning", "Country", "NamePolicy", "PhoneForm", "PhonePolicy", "TextPolicy"]

PhonePolicy: TypeAlias = Literal["refuse", "spelling"]
Country: TypeAlias = Literal["IN", "US", "GB", "AE"]
PhoneForm: TypeAlias = Literal["given", "international", "digits", "national"]
NamePolicy: TypeAlias = Literal["refuse", "punctuation", "latin", "drop"]
TextPolicy: TypeAlias = Literal["keep", "one_line"]

_CHOICES: Final[dict[str, tuple[str | None, ...]]] = {
    "phones": ("refuse", "spelling"),
    "country": (None, "IN", "US", "GB", "AE"),
    "form": ("given", "international", "digits", "national"),
    "names": ("refuse", "punctuation", "latin", "drop"),
    "text": ("keep", "one_line"),
}
# The settings under which nothing is changed; they are left out of the policy's text.
_OFF: Final = {"phones": "refuse", "country": None, "form": "given", "names": "refuse", "text": "keep"}
# Raise a version whenever the same cell would come out as another text: a journal compares them.
_VERSIONS: Final = {"phones": 1, "country": 1, "form": 1, "names": 1, "text": 1}


class Cleaning(Struct, frozen=True, kw_only=True, cache_hash=True):
    """What may be repaired in cells that the service would not take.

    Nothing is guessed: a cell that may mean two things stays invalid.

    Attributes:
        phones: ``"spelling"`` takes separators, marks of spreadsheets, labels and digits of other scripts out of phone
            numbers; ``"refuse"`` leaves them as they are. A cell that passes the strict check is never refused.
        country: the country whose numbering plan every phone number is checked against, good ones too; None for no
            plan. Numbers of other countries need a leading ``+`` or the international prefix. Needs
            ``phones="spelling"``.
        form: how numbers of ``country`` are written: ``"given"`` as the caller has them (with or without code or trunk
            zero), ``"international"`` (+919812345678), ``"digits"`` (919812345678) or ``"national"`` (9812345678,
            without trunk zero). Numbers of other countries keep or get a leading ``+`` in the last three, so that they
            cannot be taken for numbers of this one.
        names: ``"punctuation"`` replaces punctuation; ``"latin"`` writes accented letters and nine Indic scripts in
            letters A to Z as well, and leaves out a name in any other script; ``"drop"`` leaves out every name that the
            service would not take; ``"refuse"`` changes nothing.
        text: ``"one_line"`` turns line breaks and tabs of the campaign's own columns into blanks.

    Raises:
        ConfigurationError: A setting is none of its choices, or ``country`` or ``form`` lack what they need.
    """

    phones: PhonePolicy = "spelling"
    country: Country | None = None
    form: PhoneForm = "given"
    names: NamePolicy = "latin"
    text: TextPolicy = "keep"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            # A list or dictionary is unhashable, and comparing unknown objects may raise: only texts are compared.
            if not (value is None or isinstance(value, str)) or value not in choices:
                expected = ", ".join(map(repr, choices))
                got = repr(value[:40]) if isinstance(value, str) else type(value).__name__
                raise ConfigurationError(f"Cleaning.{name}: expected one of {expected}, got {got}")
        if self.country is not None and self.phones != "spelling":
            raise ConfigurationError("Cleaning.country: expected phones='spelling' beside it, got phones='refuse'")
        if self.form != "given" and self.country is None:
            raise ConfigurationError(f"Cleaning.form: expected a country beside form={self.form!r}, got country=None")

    @property
    def policy(self) -> str:
        """The settings with the versions of their rules, such as ``phones=spelling/1;country=IN/1;names=latin/1``.

        Two runs with the same text make the same bytes of the same rows. Empty when nothing is changed.
        """
        values = {name: getattr(self, name) for name in _CHOICES}
        return ";".join(f"{name}={values[name]}/{_VERSIONS[name]}" for name in _CHOICES if values[name] != _OFF[name])

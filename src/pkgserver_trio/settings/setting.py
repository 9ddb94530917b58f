"""One setting before it has a value, and the error of a wrong value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pkgserver_trio.settings.buckets import WrongItemError

if TYPE_CHECKING:
    from pkgserver_trio.settings.grammar import Grammar


class SettingsError(Exception):
    """A setting cannot be used. The text is one line for the operator; `name` is the setting, if it is one."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about a setting before it has a value.

    `default` is a text of the same grammar, in which `{NAME}` stands for the text of a setting declared earlier.
    """

    name: str
    grammar: Grammar
    default: str
    meaning: str

    def parse(self, text: str) -> Any:  # noqa: ANN401 - the type is the field's, which stands beside the grammar
        """Return the value that `text` stands for; raises SettingsError."""
        try:
            return self.grammar.parse(text)
        except ValueError as error:
            shown = repr(self.grammar.mask(text))  # repr keeps a value with line breaks on one line
            reason = f": {error}" if isinstance(error, WrongItemError) else ""
            told = f"{self.name} is {shown}, expected {self.grammar.expected}{reason}"
            raise SettingsError(told, self.name) from None

"""What an operator can choose: names and texts in, one frozen `Settings` out.

`grammar` reads the text of one value; `inherited` (PkgServer.jl's) and `table` (ours) declare every setting once, as a
`setting.Setting`; `names` recognises misspelt ones.
"""

from __future__ import annotations

from pkgserver_trio.settings.grammar import AllRegistries, ListenAddress, RegistryChoice
from pkgserver_trio.settings.names import environment_warnings, misnamed
from pkgserver_trio.settings.setting import Setting, SettingsError
from pkgserver_trio.settings.table import Settings, all_settings, effective_texts

__all__ = [
    "AllRegistries",
    "ListenAddress",
    "RegistryChoice",
    "Setting",
    "Settings",
    "SettingsError",
    "all_settings",
    "effective_texts",
    "environment_warnings",
    "misnamed",
]

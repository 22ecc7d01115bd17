"""The settings in effect, put together from what the editor sent at the start, what it says now, and each folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from lsp_server import settings as config
from lsp_server.documents import file_of
from lsp_server.settings import Settings


class Configuration:
    """`take_…` what the editor sent, then `resolve`. MIDFILL_TOKEN is taken from `environment`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings = Settings()
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        self._environment = environment
        self._initial: dict[str, Any] = {}
        self._pushed: dict[str, Any] = {}
        self._of_folders: dict[str, dict[str, Any]] = {}
        self._folder_settings: dict[str, Settings] = {}
        self._toggled: bool | None = None

    def take_initial(self, options: object) -> None:
        """The initializationOptions."""
        self._initial = config.flatten(options)

    def take_pushed(self, section: object) -> None:
        """The editor's settings; nothing in them is no news."""
        self._pushed = config.flatten(section) or self._pushed

    def take_folders(self, sections: Mapping[str, object]) -> None:
        """The settings of each folder, by its URI."""
        self._of_folders = {
            file_of(uri): config.of_folder(config.flatten(section)) for uri, section in sections.items()
        }

    def resolve(self) -> Settings:
        """Put to use what was taken; the settings where no folder has its own."""
        layers = {"initializationOptions": self._initial, "the editor's settings": self._pushed}
        self.origins = config.origins(layers, self._environment)
        self.settings, self.problems = self._parse({})
        self._folder_settings = {}
        for folder, section in self._of_folders.items():
            self._folder_settings[folder], problems = self._parse(section)
            self.problems += [f"{problem} (in {folder})" for problem in problems if problem not in self.problems]
        self.problems += config.misspelt(self._environment)
        return self.settings

    def of(self, uri: str) -> Settings:
        """The settings for a document: those of the innermost folder that has its own."""
        return self.of_file(file_of(uri))

    def of_file(self, path: str) -> Settings:
        """The same for a path with `/`."""
        file = PurePosixPath(path)
        inside = [folder for folder in self._folder_settings if file.is_relative_to(folder)]
        return self._folder_settings[max(inside, key=len)] if inside else self.settings

    def toggle(self) -> bool:
        """Switch completions off or on until the editor is closed or toggled again; the new state."""
        wanted = not self.settings.enable
        self._toggled = None
        # Back at what the settings say, they count again.
        if self._parse({})[0].enable != wanted:
            self._toggled = wanted
        self.resolve()
        return wanted

    def _parse(self, section: Mapping[str, Any]) -> tuple[Settings, list[str]]:
        settings, problems = config.parse({**self._initial, **self._pushed, **section}, self._environment)
        return (settings if self._toggled is None else config.with_enable(settings, self._toggled)), problems

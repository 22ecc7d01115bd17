"""Whether a completion may be asked for and shown at all: the rules around `Completer`."""

from __future__ import annotations

import time
from collections.abc import Callable

from lsp_server import gates
from lsp_server.choices import Choices
from lsp_server.completer import Answer, Completer
from lsp_server.configuration import Configuration
from lsp_server.documents import Snapshot
from lsp_server.feedback import Feedback
from lsp_server.journal import Journal
from lsp_server.quiet import Quiet
from lsp_server.safety import FileRules
from lsp_server.settings import Settings
from lsp_server.status import Status


class Suggestions:
    """Safety, switches and quiet controls before a request, and the feedback after it.

    `folders()` are the workspace's roots, as paths; `text_of(uri)` the text of an open document, or None, and
    `language_of(uri)` its language.
    """

    def __init__(
        self,
        completer: Completer,
        choices: Choices,
        configuration: Configuration,
        rules: FileRules,
        quiet: Quiet,
        feedback: Feedback,
        status: Status,
        journal: Journal,
        folders: Callable[[], list[str]],
        text_of: Callable[[str], str | None],
        language_of: Callable[[str], str | None],
    ) -> None:
        self._completer = completer
        self._by_hand = choices
        self._configuration = configuration
        self._rules = rules
        self._quiet = quiet
        self._feedback = feedback
        self._status = status
        self._journal = journal
        self._folders = folders
        self._text_of = text_of
        self._language_of = language_of
        self._looked_at = ""
        self._focus_is_told = False

    async def complete(self, request: Snapshot, arrived: float, by_hand: bool) -> tuple[Answer, ...]:
        """The completions for `request`, of which there are several only by hand; none if there is nothing to show."""
        settings = self._configuration.of(request.uri)
        refusal = self._rules.refusal(request, self._folders(), settings)
        self._looked_at = request.uri
        self._status.pause(refusal or self._state(settings) or gates.language_off(request.language, settings))
        if refusal:
            # What it asked for while it was allowed must not be asked again either.
            self._completer.closed(request.uri)
        refusal = refusal or (None if by_hand else self._quiet.paused(settings))
        if refusal:
            self._journal.note(request.path, time.monotonic() - arrived, refusal)
            return ()
        answers = await (self._choices if by_hand else self._by_itself)(request, arrived, settings)
        self._quiet.shown(request.uri, answers[0].completion_id if answers else "")
        if answers and (typed := self._typed(request)) is not None:
            first = answers[0]
            self._feedback.offered(first.completion_id, request, typed, first.text, first.replaces)
            if not self._feedback.client_tells:
                self._completer.displayed(first.completion_id)
        return answers

    async def _choices(self, request: Snapshot, arrived: float, settings: Settings) -> tuple[Answer, ...]:
        return await self._by_hand.complete(request, arrived, lambda: self._text_of(request.uri))

    async def _by_itself(self, request: Snapshot, arrived: float, settings: Settings) -> tuple[Answer, ...]:
        answer = await self._completer.complete(request, arrived, False, lambda: self._text_of(request.uri))
        if answer is None:
            return ()
        typed = self._typed(request)
        with self._completer.waiting(request.uri):
            refusal = await self._quiet.hold(request.uri, answer.completion_id, answer.text, arrived, settings)
        if self._typed(request) != typed:
            refusal = "the document was changed before the completion was to be shown"
        if refusal:  # the completer has noted that it is shown
            self._journal.correct(request.path, time.monotonic() - arrived, refusal)
        return () if refusal else (answer,)

    def _typed(self, request: Snapshot) -> str | None:
        source = self._text_of(request.uri)
        return None if source is None else request.between(source)

    def focused(self, uri: str) -> None:
        """The user looks at that document now: tell whether nothing is ever completed there."""
        self._looked_at, self._focus_is_told = uri, True
        self.show_state()

    def opened(self, uri: str) -> None:
        """A document was opened. Whoever tells the focus may open others behind it, and before or after that."""
        if not self._focus_is_told:
            self._looked_at = uri
        if uri == self._looked_at:
            self.show_state()

    def closed(self, uri: str) -> None:
        """A document was closed: what holds there is of no interest any more."""
        if uri == self._looked_at:
            self._looked_at = ""
            self.show_state()

    def show_state(self) -> None:
        """Tell whether completions are off where the user looks, or paused."""
        uri = self._looked_at
        settings, language = self._configuration.of(uri), self._language_of(uri)
        refusal = self._rules.file_refusal(uri, self._folders(), settings) if uri else None
        language_off = gates.language_off(language, settings) if language else None
        self._status.pause(refusal or self._state(settings) or language_off)

    def may_send(self, file: str) -> bool:
        """Whether anything of a file may leave the machine without a request of its own: by the settings of its
        folder."""
        return self._rules.path_refusal(file, self._folders(), self._configuration.of_file(file)) is None

    def _state(self, settings: Settings) -> str | None:
        return self._quiet.paused(settings) if settings.enable else "switched off"

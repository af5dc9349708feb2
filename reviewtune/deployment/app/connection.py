"""Connections of clients: uvicorn's, with an end for clients that send nothing, or only a part of a request's head."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 30.0  # seconds until the head of a request is complete


class Connection(H11Protocol):
    """One connection. uvicorn itself waits for a head without an end, and each connection takes a file descriptor."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._silence: asyncio.TimerHandle | None = self.loop.call_later(PATIENCE, self._close_if_silent)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering:
            self._stop_waiting()
        elif self._silence is None:
            self._silence = self.loop.call_later(PATIENCE, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _close_if_silent(self) -> None:
        """Between two requests uvicorn's own timer runs."""
        self._silence = None
        if not self._is_answering and self.timeout_keep_alive_task is None:
            self.transport.close()

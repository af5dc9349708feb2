"""Connections of clients: uvicorn's, with errors in OpenAI's shape, and an end for clients that send nothing."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from reviewtune.local_server.protocol.api_errors import ApiError

PATIENCE = 30.0  # seconds until a client has sent the head of a request
LINGER = 5  # seconds for the rest of a body whose request is answered already, so that its client sees the answer


class Connection(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._silence: asyncio.TimerHandle | None = self.loop.call_later(PATIENCE, self._close_if_silent)

    def data_received(self, data: bytes) -> None:
        """Also the head of a later request must be complete in time; uvicorn waits for it without an end."""
        super().data_received(data)
        if self._is_answering:
            self._stop_waiting()
        elif self._silence is None:
            self._silence = self.loop.call_later(PATIENCE, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that was refused before it was complete."""
        is_unfinished = self.conn.their_state is h11.SEND_BODY
        self.timeout_keep_alive = LINGER if is_unfinished else self.config.timeout_keep_alive
        super().on_response_complete()

    def _close_if_silent(self) -> None:
        """Close it if no head came, or only a part of one; between two requests uvicorn's own timer runs."""
        self._silence = None
        if not self._is_answering and self.timeout_keep_alive_task is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has headers above uvicorn's limit of 64 kB, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = ApiError(400, f"{msg} Its headers may have at most 64 kB.")
            body = json.dumps(error.body).encode()
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            response = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

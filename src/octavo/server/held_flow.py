"""Reading that is paused for two reasons, and goes on when neither is left."""

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """Reading stays paused while what has arrived is still being handled, whoever would have it resumed."""

    _is_held = False
    _is_full = False

    def pause_reading(self) -> None:
        self._is_full = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self._is_full = False
        if not self._is_held:
            super().resume_reading()

    def hold(self) -> None:
        self._is_held = True
        super().pause_reading()

    def release(self) -> None:
        self._is_held = False
        if not self._is_full:
            super().resume_reading()

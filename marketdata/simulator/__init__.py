"""The twin's sockets and clock: Massive's WebSocket at /stocks and its REST on one port of this machine. What is said stands in `twin`."""

from marketdata.simulator.server import PortError, RecordingError, Simulator

__all__ = ["PortError", "RecordingError", "Simulator"]

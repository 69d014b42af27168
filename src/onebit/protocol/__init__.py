"""One protocol that measures networks on one machine, after MLPerf Tiny's rules: latency, accuracy, memory, size and energy.

MLPerf is a trademark of MLCommons; what this prints is no MLPerf result.
"""

from onebit.protocol.compare import protocol
from onebit.protocol.report import Contender, Energy, Report

__all__ = ["Contender", "Energy", "Report", "protocol"]

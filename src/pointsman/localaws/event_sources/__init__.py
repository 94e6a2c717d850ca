"""What queues and streams hold is brought to the functions that event source mappings name.

Reading order: `records` (what functions get, and say of it) → `filters` → `backends` (moto's queues and streams) →
`queues` and `streams` (one feeder for each mapping) → `feeding` (all of them).
"""

from pointsman.localaws.event_sources.backends import MotoSources
from pointsman.localaws.event_sources.feeding import Feeding

__all__ = ["Feeding", "MotoSources"]

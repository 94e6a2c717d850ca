"""CloudWatch's metrics and alarms; dashboards and what else it has are moto's.

Reading order: `statistics` (what values come to) → `metrics` (kept by the second) → `emission` (what Lambda adds) and
`embedded` (what functions print) → `expressions` (metric math) → `queries` (both, as GetMetricData asks) → `verdicts`
and `rules` (when an alarm alarms) → `notices` (how it tells) → `alarms` (all of them, judged in time) → `service`
(operations) → `wire` (protocols).
"""

from pointsman.localaws.cloudwatch.service import CloudWatch

__all__ = ["CloudWatch"]

"""Lambda functions run for real, as processes of this machine, through the Lambda Runtime API.

Reading order: `executor` (the pool) → `environment` (one process, call by call) → `process`, `runtime_api`,
`runtimes`, `layers` → `endings` (Lambda's words for every way a call can end) → `logs`, `orphans`. `python/`,
`node/`, `own_opt` run in the function.
"""

from pointsman.localaws.execution.executor import LocalExecutor, account_credentials

__all__ = ["LocalExecutor", "account_credentials"]

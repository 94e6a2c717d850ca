"""Lambda functions run for real, as processes of this machine, through the Lambda Runtime API.

Reading order: `executor` (the pool) → `environment` (one process, call by call) → `process`, `runtime_api`, `runtimes`
→ `endings` (Lambda's words for every way a call can end) → `logs`, `orphans`. `python/`, `node/` run in the function.
"""

from pointsman.localaws.execution.executor import LocalExecutor, account_credentials

__all__ = ["LocalExecutor", "account_credentials"]

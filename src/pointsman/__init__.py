"""Continuous deployment of versioned AWS Lambda functions.

To read in this order: `model`, `errors` (the words); `plan`, `deployments` (what decides, pure); `execute`, `owners`,
`observe`, `hands`, `release`, `release_set` (carrying it out); `aws`, `ledger` (what it stands on).
docs/architecture.md says the rest.
"""

__version__ = "0.1.0"

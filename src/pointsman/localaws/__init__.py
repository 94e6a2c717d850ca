"""AWS on this machine. Stands apart: it imports nothing else of pointsman's, and only `pointsman local` imports it.

Reading order: `contract` (the shared words) → `control` (up, down, reach it) → `server` (the process) → `application`
(who answers what) → `lambda_` (Lambda's control plane) and `execution` (functions as processes) → `moto_bridge`,
`moto_lambda`, `persistence` (the rest of AWS) → `cloudformation` → `recurrence`, `schedules`, `moto_schedules`,
`event_inputs` and `moto_targets` (EventBridge: when rules and schedules are due, and what they reach). Beside them:
`accounts` (who calls), `chaos` and `trouble` (bad luck on demand, decided and carried out), `naming` (which operation
a request is), `snapshots` (the whole state, by name).
"""

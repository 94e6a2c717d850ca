"""CloudFormation of the local AWS.

Reading order: `template` (what a template says: parameters, conditions, functions, dependencies; pure) → `resources`
(what can be created: Lambda's by our own state, the rest by moto's models) → `stacks` (stacks, change sets, roll-back)
→ `wire` (the API).
"""

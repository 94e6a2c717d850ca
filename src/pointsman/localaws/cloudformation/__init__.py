"""CloudFormation of the local AWS.

Reading order: `template` (what a template says: parameters, conditions, functions, dependencies; pure) → `transform`
(AWS::Serverless and AWS::LanguageExtensions) → `resources` (what a type is to a stack) → `schemas` (what AWS says of
each type) → `lambdas`, `called`, `modelled`, `kinds` (the types served: Lambda's by our own state, others by the
services' own operations or by moto's models) → `records`, `stacks`, `nested` (stacks, change sets, roll-back) → `wire`
(the API). `sources` reads what templates name in other services.
"""

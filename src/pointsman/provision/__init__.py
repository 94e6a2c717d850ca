"""Who owns the function's configuration: CloudFormation, Pointsman itself (direct), or somebody else (existing)."""

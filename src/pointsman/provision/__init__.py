"""What the owners of a function's settings work with: stacks and templates, Terraform, S3, what a rehearsal lacks."""

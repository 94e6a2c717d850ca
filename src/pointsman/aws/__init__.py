"""One door to AWS: typed methods (`gateway`), one `send` (`transports`), botocore at the end (`wire`)."""

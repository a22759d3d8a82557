"""A sample of requests with their answers, for debugging and replay: redacted, encrypted, and deleted after a while."""

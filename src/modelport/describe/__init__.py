"""What a model says of itself to its callers: an OpenAPI document, and a typed Python client."""

"""The service as others reach it: Envoy with keys, limits, routes between versions, capture."""

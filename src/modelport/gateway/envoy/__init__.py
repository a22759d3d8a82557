"""What Envoy is told: its configuration, rendered from settings, and the checks that it runs for each request."""

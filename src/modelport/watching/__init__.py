"""What a running service does now, from the metrics that Prometheus reads: Triton's, Envoy's, the supervisor's."""

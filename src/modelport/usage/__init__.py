"""What tenants used: counted from the gateway's access log and Triton's statistics, and priced."""

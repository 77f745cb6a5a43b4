"""Stand-ins for parts whose faults a test must control. The real ones are in tests/harness."""

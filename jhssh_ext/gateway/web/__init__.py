"""The gateway's HTTP side: what the Hub, Prometheus, user servers and a person's browser ask of it."""

"""Long, many, stalled, vanished, restarted: what only whole systems show. Real Hubs, gateways and OpenSSH clients."""

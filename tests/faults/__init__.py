"""What must hold when a part is hostile, gone or fed nonsense: real Hubs, gateways and clients, doubles for attackers only."""

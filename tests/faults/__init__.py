"""What must hold when a part is hostile, gone or fed nonsense: real Hubs and gateways, real clients, doubles only for the attacker."""

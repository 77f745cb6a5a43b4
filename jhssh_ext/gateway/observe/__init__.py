"""What the gateway tells its admin: an audit log and metrics. Nothing secret, and names only as they may be shown."""

"""Where keys are registered: a class for each kind of place. c.Gateway.key_sources says which count."""

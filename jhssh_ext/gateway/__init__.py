"""The gateway: the Hub-side SSH proxy. A connection passes accept, authenticate, connect and relay, in this order."""

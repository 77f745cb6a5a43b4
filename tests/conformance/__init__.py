"""One table of SSH behaviours, tried with the stock OpenSSH client on every way into a user server that we have."""

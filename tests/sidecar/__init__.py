"""The sidecar and the session agent, in two containers made of namespaces: no cluster is needed, but root and unshare(1)."""

"""Real pods: a Hub and a gateway on this machine, user servers in whatever cluster KUBECONFIG names."""

"""``make demo``: a Hub on this machine that you can ssh into."""

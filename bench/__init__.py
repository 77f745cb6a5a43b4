"""What the project promises in figures, measured: each module is a command that prints them."""

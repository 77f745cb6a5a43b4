"""The panel in real Chromium, against real user servers of a real Hub."""

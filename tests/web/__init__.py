"""The gateway's pages in a real Chromium, before real Hubs."""

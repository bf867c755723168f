"""Peers: for each a script that an environment of its own runs, and what that environment holds."""

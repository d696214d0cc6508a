"""Explicit key tables: where every tensor of a released checkpoint lives in our networks."""

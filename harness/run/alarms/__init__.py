"""Runs that run and learn nothing: settings that keep them from it, and a first step that changes nothing."""

"""Hostile files: made from valid ones by a seed, and fed to the commands that take files from strangers."""

"""Folders and containers of pictures as streams of (name, bytes); nothing is decoded here."""

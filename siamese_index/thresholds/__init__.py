"""Searches by strangers to a threshold: kept up with the gallery, learned, decided with, planned."""

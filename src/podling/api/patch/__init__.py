"""Patches of plain documents: JSON patch, merge patch and strategic merge patch."""

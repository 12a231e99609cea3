"""Admission: plugins that may change or refuse an object after it was decoded and before it is validated."""

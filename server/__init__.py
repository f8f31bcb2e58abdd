"""The HTTP service: the same engine, the same answers. It needs the extra [serve]."""

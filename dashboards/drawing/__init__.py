"""Numbers to the geometry of charts. Pure: no Django, no clock; templates put the shapes into SVG."""

"""The rankings grid: which columns it has, which rows a filter leaves, in which order. Pure: no Django, no clock."""

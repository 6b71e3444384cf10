"""The sentences that pages open with: stored values put into fixed templates, never an opinion. Pure: no Django, no clock."""

"""
How often each pattern is found where there is none: detections per 1,000 bars of random walks.

Written by `manage.py check_detectors --write-base-rates`; not edited by hand.
"""

BASE_RATES: dict[str, float] = {}

"""``spm-page``: the tracker in a browser. Draw a box, watch, correct, compare, take the results home.

One process, one page, no build step. ``places`` says what may be opened, ``guard`` who may ask; ``frames`` gives any
frame of a source again, ``lanes`` and ``run`` track, ``downloads`` writes results, and ``app`` puts all of this behind
addresses.
"""

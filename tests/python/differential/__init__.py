"""Random programs of calls, run on navmap, on a model of it in plain Python, and on hnswlib.

    python -m differential --programs 1000 [--seed N] [--jobs J] [--no-hnswlib]    (in tests/python)

A program is a list of steps (steps.py), made from its seed alone (generate.py).  The model says of
each step what it must return or raise (model.py, searching.py, expected.py); navmap has to do just
that (world.py), and hnswlib the same, where hnswlib is defined (peer.py).  A program that fails is
cut down to the steps that it takes (minimise.py) and printed as lines of Python.  campaign.py runs
many.
"""

"""Random programs of calls, run on navmap, on a model of it in plain Python, and on hnswlib.

    python -m differential --programs 1000 [--seed N] [--jobs J] [--no-hnswlib] [--verbose]
                                                                            (in tests/python)

A program is a list of steps (steps.py), made from its seed alone (generate.py).  The models say of
each step what it must return or raise (models.py, model.py, searching.py, expected.py); navmap has
to do just that (world.py, doing.py), and hnswlib the same, where hnswlib is defined (peer.py).
Files and pickles that hnswlib has written are read by navmap, too.  A program that fails is cut
down to the steps that it takes (minimise.py) and printed as lines of Python.  campaign.py runs
many; counting.py says what they have called, and when that is not enough.
"""

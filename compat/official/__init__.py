"""The conversation in IBKR's own library, ibapi.

It runs as a program of its own in an environment of its own, since ibapi is under the GPL: nothing else of this project
imports ibapi or is imported here, except the list of steps and the record of what became of them.
"""

"""The evaluation: repeatable, offline, without a judge model; see `python -m eval --help`.

It imports `assistant`, never the other way round.
"""

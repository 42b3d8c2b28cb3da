"""Every artifact file of the pipeline, one module each; ``docs/artifacts.md`` is generated from here.

A stage imports only the formats that it reads and writes, so that a change of one format leaves the code digests of
the other stages alone.
"""

"""cost: what does a step that moves one block cost, beside what arithmetic says?

A new part is a module that exposes a `PART`, and its name in `PARTS` of `part.py`. Nothing is imported here: the process
that runs badam has no Keras in it.
"""

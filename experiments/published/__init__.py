"""published: do the diagnostics measure what papers report of training?"""

"""coadaptation: layers move at the same time and do not communicate: do their moves cancel, or become too drastic?"""

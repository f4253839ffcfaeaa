"""dependence: weights depend on each other; is the gradient still the steepest direction, and is that why pictures work?"""

"""linearity: a step follows a straight line, the loss does not: what does that cost?"""
